"""The web page: its answers beside the command line's, and what a person does with it in a real browser."""
