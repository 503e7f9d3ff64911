"""Errors of a command, as messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rft.errors import RftError


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; an error that rft raises on purpose becomes a message and an exit code."""
    try:
        return command(words)
    except RftError as error:
        print("\n".join([f"rft: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return error.exit_code
