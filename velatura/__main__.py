"""`python -m velatura` is the command `velatura`."""

import sys

from velatura.cli import main

if __name__ == "__main__":
    sys.exit(main())
