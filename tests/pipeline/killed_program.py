"""Runs a command of rft in one process, and kills this process as soon as its output matches a pattern.

python -m tests.pipeline.killed_program <pattern> one-process|processes <command> <words>
"""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import nullcontext
from typing import Any

from rft.cli import main
from tests.fake_ray import without_ray


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
