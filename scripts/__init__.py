"""Tools for those who maintain torchinstall; run them as `python -m scripts.NAME` from the checkout."""
