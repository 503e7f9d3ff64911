"""`rft.view`: writes one HTML file that shows runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rft.errors import UsageError
from rft.evidence.viewer.collect import collect_run
from rft.evidence.viewer.page import viewer_page
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
        tell: Receives a sentence about each damaged line.

    Returns:
        The file.

    Raises:
        UsageError: A folder is no run folder, or there is none; contains all problems.
        WriteError: The file cannot be written.

    Example:
        rft.view("runs/first", out="first.html")
    """
    problems = [] if runs else ["name at least one run folder"]
    if Path(out).suffix not in (".html", ".htm"):
        problems.append(f"out={out}: must end in .html")
    collected = []
    for run in runs:
        name, _, place = run.rpartition("=")
        folder = Path(place).expanduser()
        try:
            collected.append(
                collect_run(
                    folder, name=name or folder.absolute().name, max_rollouts=max_rollouts // len(runs), tell=tell
                )
            )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("view", problems)
    replace_file(Path(out), [viewer_page(collected).encode()])
    return Path(out)
