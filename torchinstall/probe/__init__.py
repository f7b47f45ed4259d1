"""Examine the machine: one file per vendor, one door to the operating system (`system.py`)."""
