"""Packages that are built against torch choose it together."""
