"""Say what is wrong with what is installed, and what to type."""
