"""Tests of exports and bundles: each by the tool that reads it, where that can be had."""
