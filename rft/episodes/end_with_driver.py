"""A script that runs an agent, which the kernel then ends together with the driver of the run.

    python -I -S end_with_driver.py <process id of the driver> <program> <argument> ...

The signal remains set when the agent replaces this script: man 2 prctl, PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1


def main(driver: int, command: list[str]) -> None:
    """Replace this process with a command, unless the driver has already ended.

    Args:
        driver: Process id of the driver, the parent of this process.
        command: The program, and its arguments.
    """
    with suppress(AttributeError, OSError):  # Linux alone
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() == driver:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
