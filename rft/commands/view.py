"""`rft view`: write one HTML file that shows runs, or serve them."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress


def view(words: list[str]) -> int:
    """Write the file, or serve until an interruption; return the exit code, 0."""
    from rft.api.view import open_viewer
    from rft.api.view import view as write_view

    given = parser().parse_args(words)

    def tell(text: str) -> None:
        print(f"rft: {text}", file=sys.stderr)

    if given.serve:
        with open_viewer(*given.runs, port=given.port, tell=tell) as server:
            print(f"open {server.url} in a browser on this machine (Ctrl-C ends it)", flush=True)
            with suppress(KeyboardInterrupt):
                server.serve_forever()
        return 0
    path = write_view(*given.runs, out=given.out, tell=tell)
    print(f"{path.absolute()}: open it in a browser")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(
        prog="rft view",
        description="Write one HTML file that shows runs: curves, results, and completions with grades and reasons; or "
        "serve all of their completions on this machine, also while the runs go on.",
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="run folders, such as runs/quickstart/<time>")
    parser.add_argument("--out", default="view.html", metavar="FILE", help="the file to write; default: %(default)s")
    parser.add_argument("--serve", action="store_true", help="serve the page on 127.0.0.1 instead, until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of --serve; default: a free one")
    return parser
