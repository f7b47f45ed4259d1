"""Turn a plan into a uv command, run it, and prove that the result computes."""
