"""Starts an MCP server that ends with the process that started it.

    python -I -S mcp_launch.py <process id of the parent> <command> <argument> ...

The client closes a server in order, but a killed process of an environment closes nothing. The kernel then kills the
server. This file imports nothing of rft, because every episode may pay for its start.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    """Become the server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it ended before the call
            os._exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
