"""The command line `rft <command> ...`; `rft.commands` contains the commands.

A command composes and checks its configuration before it imports large libraries. It prints problems as bullets and
exits with code 2.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rft import __version__
from rft.commands import COMMANDS, Command
from rft.commands.guard import guarded


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"rft {__version__}")
        sys.exit(0)
    commands = {command.name: command for command in COMMANDS}
    if words[0] not in commands:
        near = difflib.get_close_matches(words[0], commands, n=1)
        hint = f"did you mean {near[0]}? Commands" if near else "commands"
        print(f"rft: unknown command {words[0]!r}; {hint}: {', '.join(commands)}\n\n{usage()}", end="", file=sys.stderr)
        sys.exit(2)
    sys.exit(_run(commands[words[0]], words[1:]))


def _run(command: Command, words: list[str]) -> int:
    """Run a command. An interruption or a closed output pipe is not an error."""
    if broken := [word for word in words if _is_no_utf8(word)]:
        print(f"rft: the command line is not valid UTF-8: {broken[0]!r}", file=sys.stderr)
        return 2
    try:
        code = guarded(command.run, words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("rft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _has_no_reader():
            raise
        return 141  # the shell's code for a program that SIGPIPE ended
    return code


def _is_no_utf8(word: str) -> bool:
    """Whether Python could not decode an argument, so that it cannot be printed."""
    return any("\udc80" <= character <= "\udcff" for character in word)


def _has_no_reader() -> bool:
    """Whether the reader of standard output is gone, as after `| head`; if so, drop pending output."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def usage() -> str:
    """Return the text of `rft --help`."""
    lines = "\n".join(f"  rft {command.name:<14} {command.summary}" for command in COMMANDS)
    return f"""\
usage: rft <command> ...

{lines}

  rft train experiment=quickstart          a minute on a laptop, no download
  rft <command> --help                     keys and options of a command
  rft --version
"""


if __name__ == "__main__":
    main()
