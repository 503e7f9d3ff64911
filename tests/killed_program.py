"""Runs commands of rft in a process that is killed on the way: by a pattern in its output, or by the user's own code.

python -m tests.killed_program <pattern> one-process|processes <command> <words>
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rft.cli import main
from tests.fake_ray import without_ray

ROOT = Path(__file__).parents[1]
DEADLINE_S = 600.0
"""Of the process, however busy the machine is; it only ends what hangs."""
NEVER = "(?!)"
"""A pattern that matches nothing: the code of the user kills the process."""


def run_killed(*words: str, cwd: Path, pattern: str = NEVER, how: str = "one-process") -> int:
    """Run a command in a process of its own, and return its exit code.

    Args:
        words: The command of rft, and its arguments.
        cwd: Its working directory.
        pattern: The process is killed as soon as its output matches.
        how: `one-process` without Ray, or `processes`.
    """
    killed = subprocess.run(
        [sys.executable, "-m", "tests.killed_program", pattern, how, *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    print(killed.stdout)  # pytest shows it when the test fails
    return killed.returncode


class FatalOutput:
    """Passes the output on, up to a match.

    Args:
        output: Receives it.
        pattern: The pattern.
    """

    def __init__(self, output: Any, pattern: str) -> None:
        self._output = output
        self._pattern = re.compile(pattern, re.DOTALL)
        self._written = ""

    def write(self, text: str) -> int:
        self._output.write(text)
        self._output.flush()
        self._written += text
        if self._pattern.search(self._written):
            os.kill(os.getpid(), signal.SIGKILL)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


if __name__ == "__main__":
    pattern, how, *words = sys.argv[1:]
    sys.argv = ["rft"]
    sys.stdout = FatalOutput(sys.stdout, pattern)
    with without_ray() if how == "one-process" else nullcontext():
        main(words)
