"""Tests of project files: layouts, migration, locks."""
