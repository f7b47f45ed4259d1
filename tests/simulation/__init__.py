"""Thousands of machines, and an oracle that judges the plans made for them.

`oracle.py` and what it reads (`facts/`, `facts.py`, `published.py`) were written from the facts alone: they
share no line and no table with `torchinstall`, so that an error on either side shows as a disagreement.
"""
