"""Turns errors of a command into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rft.errors import RftError


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; turn rft's own errors into a message and an exit code."""
    try:
        return command(words)
    except RftError as error:
        print("\n".join([f"rft: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return error.exit_code
