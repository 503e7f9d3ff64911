"""`rft.view`: writes one HTML file that shows runs, or serves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rft.errors import UsageError
from rft.evidence.viewer.page import packed, viewer_page
from rft.evidence.viewer.server import ViewerServer
from rft.evidence.viewer.viewed_run import MAX_TOKENS, ViewedRun
from rft.reliability.durable import replace_file

MAX_ROLLOUTS = 5000
"""Completions in the file, of all runs together."""


def view(*runs: str, out: str, max_rollouts: int = MAX_ROLLOUTS, tell: Callable[[str], None] = print) -> Path:
    """Write one HTML file that shows runs: curves, results, and their completions with grades and reasons.

    The file needs no network and no other file.

    Args:
        runs: Run folders, also of runs that still go on; each may follow a name, as in `tuned=runs/first`.
        out: The `.html` file; an existing one is replaced.
        max_rollouts: Most completions to hold, of all runs together; they are chosen evenly.
        tell: Receives a sentence about each damaged line, and about the progress of indexing older runs.

    Returns:
        The file.

    Raises:
        UsageError: A folder is no run folder, or there is none; contains all problems.
        WriteError: The file cannot be written.

    Example:
        rft.view("runs/first", out="first.html")
    """
    more = [] if Path(out).suffix in (".html", ".htm") else [f"out={out}: must end in .html"]
    opened = _opened(runs, tell, more)
    overviews = [run.overview() for run in opened]
    shares = shared_out([run.num_rollouts() for run in opened], max_rollouts)
    shown = [
        {**overview, "rollouts": run.chosen(share, max_tokens=MAX_TOKENS // len(opened))}
        for run, overview, share in zip(opened, overviews, shares, strict=True)
    ]
    replace_file(Path(out), [viewer_page(packed(shown)).encode()])
    return Path(out)


def open_viewer(*runs: str, port: int, tell: Callable[[str], None]) -> ViewerServer:
    """Return a server of the page, which lists all completions and follows runs that go on; it listens already.

    Args:
        runs: Like those of `view`.
        port: Port on 127.0.0.1; 0 takes a free one.
        tell: Like that of `view`.

    Raises:
        UsageError: A folder is no run folder, or there is none, or the port cannot be used.
    """
    opened = _opened(runs, tell, [])
    for run in opened:
        run.prepare()  # the index of an older run is made before a browser waits for it
    return ViewerServer(opened, port=port)


def shared_out(sizes: Sequence[int], most: int) -> list[int]:
    """Return how many items of each run are shown: equally many, but no more than it has, `most` in all."""
    shares = [0] * len(sizes)
    left = most
    for done, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        shares[place] = min(sizes[place], left // (len(sizes) - done))
        left -= shares[place]
    return shares


def _opened(runs: Sequence[str], tell: Callable[[str], None], problems: list[str]) -> list[ViewedRun]:
    if not runs:
        problems = ["name at least one run folder", *problems]
    opened = []
    for run in runs:
        name, _, place = run.rpartition("=")
        folder = Path(place).expanduser()
        try:
            opened.append(ViewedRun(folder, name=name or folder.absolute().name, tell=tell))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("view", problems)
    return opened
