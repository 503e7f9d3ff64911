"""`rft view`: write one HTML file that shows runs."""

from __future__ import annotations

import argparse
import sys


def view(words: list[str]) -> int:
    """Write the file; return the exit code, 0."""
    from rft.api.view import view as write_view

    given = parser().parse_args(words)
    path = write_view(*given.runs, out=given.out, tell=lambda text: print(f"rft: {text}", file=sys.stderr))
    print(f"{path.absolute()}: open it in a browser")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(
        prog="rft view",
        description="Write one HTML file that shows runs: curves, results, and completions with grades and reasons.",
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="run folders, such as runs/quickstart/<time>")
    parser.add_argument("--out", default="view.html", metavar="FILE", help="the file to write; default: %(default)s")
    return parser
