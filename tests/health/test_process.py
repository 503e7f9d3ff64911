"""Whether a process still lives."""

import os
import subprocess

from rft.health.process import lives, start_of


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    started = start_of(os.getpid())
    assert started is not None
    assert lives(os.getpid(), started)
    assert not lives(os.getpid(), started - 1), "another process had this number before"
    assert lives(os.getpid(), None)


def test_a_process_that_has_ended_but_is_not_reaped_does_not_live() -> None:
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as process:
        started = start_of(process.pid)
        assert process.stdout is not None
        process.stdout.read()  # until its end
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_of(process.pid) is None
        assert not lives(process.pid, started or 1)
    assert not lives(process.pid, None)
