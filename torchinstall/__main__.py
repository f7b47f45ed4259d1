"""Run torchinstall as `python -m torchinstall`."""

import sys

from torchinstall.cli import main

if __name__ == "__main__":
    sys.exit(main())
