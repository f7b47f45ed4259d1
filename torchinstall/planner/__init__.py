"""Decide which build runs where. Pure: no files, no processes, no network, no clock, no environment."""
