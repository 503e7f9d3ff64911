"""`rft sample` as a script."""

import sys

from rft.cli import main

if __name__ == "__main__":
    main(["sample", *sys.argv[1:]])
