"""Inventories, classes of machines, their files, and the inverse plan."""
