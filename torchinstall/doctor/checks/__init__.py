"""The doctor's checks: pure functions from a environment to what is wrong in it.

A new check is one function here, one row in `registry.CHECKS`, and one line in `docs/reference/doctor.md`
(a test joins the three).
"""
