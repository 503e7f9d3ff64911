"""Turns errors of a command into messages and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from rft.errors import EarlierName, RayLost, RftError
from rft.reliability.limits import remedy_of_limit


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; turn rft's own errors, and limits of the operating system, into a message and an exit code.

    After the loss of Ray, the process ends here: at Python's end Ray would wait for the lost process, and may replace
    the exit code.
    """
    warnings.formatwarning = _formatted
    try:
        return command(words)
    except RayLost as error:
        try:
            _say(error)
            sys.stdout.flush()
        finally:  # even if nobody reads the output
            os._exit(error.exit_code)
    except RftError as error:
        _say(error)
        return error.exit_code
    except (OSError, RuntimeError) as error:
        if (remedy := remedy_of_limit(error)) is None:
            raise
        error.add_note(remedy)
        _say(error)
        return 1
    finally:
        warnings.formatwarning = _FORMAT


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return the text of a warning: the message alone if it is about the configuration, else also its place."""
    if issubclass(category, EarlierName):
        return f"rft: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)


_FORMAT = warnings.formatwarning


def _say(error: Exception) -> None:
    print("\n".join([f"rft: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr, flush=True)
