"""Kill installations at random moments, and see that the next run finds or makes a whole environment.

`python -m tests.crash --kills 300` prints one line a kill that went wrong, and a summary.
"""
