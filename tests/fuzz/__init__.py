"""Inputs of every kind, made up: no bug of ours (exit 70), nothing that a terminal obeys, none above 2 s.

`python -m tests.fuzz --all` tries thousands; the suite tries some.
"""
