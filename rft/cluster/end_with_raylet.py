"""A script that runs an agent of Ray, which the kernel then ends together with the raylet.

    python -I -S end_with_raylet.py <program> <argument> ...

With `wait` in place of the program, the script itself stands in for an agent, and does nothing until the raylet ends.
Without it, an agent first reports the end of the raylet to the head, and waits for a minute if the head is gone, too.
The signal remains set when the agent replaces this script: man 2 prctl, PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
WAIT = "wait"
RAYLET_PID = "RAY_RAYLET_PID"
"""Environment variable that the raylet, the parent of this process, sets for its agents."""


def main(command: list[str]) -> None:
    """Replace this process with a command, unless the raylet has already ended.

    Args:
        command: Path of the program, or `WAIT`, and its arguments.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(os.environ[RAYLET_PID]):
        return
    if command[0] == WAIT:
        signal.pause()
    else:
        os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
