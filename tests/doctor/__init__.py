"""Tests of the doctor: symptoms, checks, the verb."""
