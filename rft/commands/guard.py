"""Turns errors of a command into messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rft.errors import RayLost, RftError


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; turn rft's own errors into a message and an exit code.

    After the loss of Ray, the process ends here: at Python's end Ray would wait for the lost process, and may replace
    the exit code.
    """
    try:
        return command(words)
    except RftError as error:
        print("\n".join([f"rft: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        if isinstance(error, RayLost):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.exit_code)
        return error.exit_code
