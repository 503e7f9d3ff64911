"""`rft serve-grader` as a script."""

import sys

from rft.cli import main

if __name__ == "__main__":
    main(["serve-grader", *sys.argv[1:]])
