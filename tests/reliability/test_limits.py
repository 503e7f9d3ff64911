"""Limits of open files, processes and threads."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from rft.commands.guard import guarded
from rft.reliability.limits import MORE_FILES, MORE_PROCESSES, remedy_of_limit


def test_a_command_without_file_handles_ends_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def read(words: list[str]) -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        return len(os.listdir("/"))

    try:
        code = guarded(read, [])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert code == 1
    assert capsys.readouterr().err == f"rft: [Errno 24] Too many open files: '/'\n{MORE_FILES}\n"


def test_only_errors_of_limits_have_a_remedy() -> None:
    assert remedy_of_limit(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))) == MORE_PROCESSES
    assert remedy_of_limit(BlockingIOError(errno.EAGAIN, "write could not complete without blocking", 0)) is None
    assert remedy_of_limit(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
    assert remedy_of_limit(RuntimeError("can't start new thread")) == MORE_PROCESSES
    assert remedy_of_limit(RuntimeError("no running event loop")) is None
    with pytest.raises(ValueError, match="wrong"):
        guarded(lambda words: int("wrong"), [])
