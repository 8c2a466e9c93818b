"""`python -m prefork`, the same as the command `prefork`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
