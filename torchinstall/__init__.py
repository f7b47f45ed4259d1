"""torchinstall: install the PyTorch build that really works on this machine."""

# A literal: reading it through importlib.metadata costs more start-up time than the whole of `--version`.
__version__ = "0.1.0"
