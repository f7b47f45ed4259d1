"""Write a plan into the files that a team keeps: `pyproject.toml`, exports, bundles."""
