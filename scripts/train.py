"""`rft train` as a script."""

import sys

from rft.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
