"""`rft grade` as a script."""

import sys

from rft.cli import main

if __name__ == "__main__":
    main(["grade", *sys.argv[1:]])
