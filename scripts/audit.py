"""`rft audit` as a script."""

import sys

from rft.cli import main

if __name__ == "__main__":
    main(["audit", *sys.argv[1:]])
