r"""The zygote's loop: one interpreter, with the usual imports done, is forked for each program.

The zygote never reads a program: an order is a file, which only the forked process reads. The messages on the
control socket are JSON objects:

    {"start": true}     answered by {"pid": 7}, or by {"error": "..."}; comes with the descriptors of the order, of the
                        report, of the program's stdin, stdout and stderr, and of its channel to another, if any
    {"terminate": 7}    ask that supervisor to end its program, report, and end itself
    {"end": 7}          kill the remaining processes of its group, and collect it

A supervisor that has ended remains a zombie until `end`, so its number still identifies the same process. When the
launcher ends, the socket closes, the zygote ends, and the kernel signals the supervisors, as they requested.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
from contextlib import suppress

from rft.grading.sandbox.inside import seccomp
from rft.grading.sandbox.inside.kernel import PR_SET_PDEATHSIG, prctl

_MESSAGE_BYTES = 4096
_MAX_DESCRIPTORS = 6
_CHANNEL_FD = 200
_PRELOADED = ("bisect", "collections", "copy", "functools", "heapq", "itertools", "math", "random", "re", "typing")
"""The most common imports of solutions. A fork copies their state; `random` gets a new seed."""


def serve(control_fd: int) -> tuple[int, int]:
    """Fork a process for each order, until the control socket closes.

    Args:
        control_fd: The zygote's end of the control socket, of type SOCK_SEQPACKET.

    Returns:
        In each forked process, the descriptors of its order and of its report. The zygote never returns.
    """
    for name in _PRELOADED:
        importlib.import_module(name)
    if os.uname().machine in seccomp.ARCHITECTURES:
        for may_fork in (False, True):
            seccomp.constant_part(os.uname().machine, may_fork)
    control = socket.socket(fileno=control_fd)
    parent = os.getpid()
    started = set[int]()
    ended = set[int]()
    gc.collect()
    gc.freeze()  # garbage collection in a forked process leaves these objects and their shared pages alone
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, _MAX_DESCRIPTORS)
        if not message:
            os._exit(0)
        order = json.loads(message)
        if "start" in order:
            pid = _fork(control)
            if pid == 0:
                control.close()
                return _adopt(descriptors, parent)
            for descriptor in descriptors:
                os.close(descriptor)
            if pid > 0:
                started.add(pid)
        elif "terminate" in order and order["terminate"] in started:
            os.kill(order["terminate"], signal.SIGTERM)
        elif "end" in order and order["end"] in started:
            started.remove(order["end"])
            os.kill(order["end"], signal.SIGKILL)
            with suppress(ProcessLookupError):  # it may not have a group yet
                os.killpg(order["end"], signal.SIGKILL)
            ended.add(order["end"])
        ended = {pid for pid in ended if not os.waitpid(pid, os.WNOHANG)[0]}


def _fork(control: socket.socket) -> int:
    """Fork and report to the launcher; return 0 in the new process, -1 if the fork failed."""
    try:
        pid = os.fork()
    except OSError as error:
        control.send(json.dumps({"error": f"fork: {error.strerror}"}).encode())
        return -1
    if pid:
        control.send(json.dumps({"pid": pid}).encode())
    return pid


def _adopt(descriptors: list[int], parent: int) -> tuple[int, int]:
    """Leave the zygote's session, move streams and channel to their numbers, and return the other descriptors."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    order, report, *streams = descriptors
    for number, descriptor in zip((0, 1, 2, _CHANNEL_FD), streams, strict=False):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return order, report
