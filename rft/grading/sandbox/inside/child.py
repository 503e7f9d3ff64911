r"""The start of a sandboxed process: sets up the walls, runs the program, supervises it and reports.

    launcher -> zygote -> a fork of it -> (rung 2: first process of the namespaces) -> the program
                          \__________ supervisor: deadline, kills the rest ___________/

The report goes through a pipe that the program does not inherit, one JSON object per line: `{"walls": [...]}` after the
walls are set up, or `{"error": "..."}`, and finally `{"exit_code": 0, "timed_out": false, "seconds": 0.1}`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from types import CodeType, ModuleType
from typing import Any

from rft.grading.sandbox.inside import landlock, namespaces, seccomp
from rft.grading.sandbox.inside.kernel import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, give_up_capabilities, prctl

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_READABLE = frozenset(map(os.path.realpath, (*sys.path, os.path.dirname(os.path.dirname(os.__file__)), *_SYSTEM)))
"""Made once, by the zygote."""
_THREADS = 64
"""The kernel counts threads as processes; this number is added to the allowed processes."""
_STRAY_ROUNDS = 10_000


def main(order_fd: int, report_fd: int) -> None:
    """Execute the launcher's order. Returns only in the program's process, after the program.

    Args:
        order_fd: A file with the order as JSON: `rung`, `source`, `packages`, `base`, `uid`, and the limits.
        report_fd: Receives the report.
    """
    with open(order_fd, encoding="utf-8") as file:
        order = json.load(file)
    walls: list[str] = []
    try:
        if (
            order["rung"] < 2
        ):  # on rungs 0 and 1 the supervisor ends its program; on rung 2 the kernel ends the namespace
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        os.chdir(order["base"])
        readable = _readable(order["packages"])
        if order["rung"] == 2:
            walls.append(namespaces.enter(order["base"], readable, size_mb=order["file_mb"]))
            _become_first_process()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        program = os.fork()
        if program:
            _report(report_fd, _supervise(program, order["wall_s"]))
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, signal.SIGTERM})
        walls += _wall_in(order, readable)
        _report(report_fd, {"walls": walls})
    except BaseException as error:
        _report(report_fd, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os.close(report_fd)
    _run(order["source"])


def _report(report_fd: int, record: dict[str, Any]) -> None:
    os.write(report_fd, json.dumps(record).encode() + b"\n")


def _readable(packages: list[str]) -> list[str]:
    """Return the folders that the program may read, without nested entries, and import from real paths only."""
    sys.path[:] = [os.path.realpath(path) for path in (*sys.path, *packages)]
    readable = {*_READABLE, *sys.path, *_DEVICES}
    return sorted(
        path for path in readable if not any(path.startswith(other.rstrip("/") + "/") for other in readable - {path})
    )


def _become_first_process() -> None:
    """Continue in a child, the first process of the namespaces; when it ends, the kernel kills all others."""
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wall_in(order: dict[str, Any], readable: list[str]) -> list[str]:
    """Drop the program's rights permanently, and return descriptions of the walls."""
    walls = [_limit(order)]
    os.environ["HOME"] = os.environ["TMPDIR"] = os.getcwd()
    if order["rung"] == 0:
        return walls
    if order["rung"] == 1 or landlock.abi():
        walls.append(landlock.restrict(readable, [os.getcwd(), "/dev/null"]))
    walls.append(_drop_user(order["uid"], readable))
    walls.append(seccomp.restrict(may_fork=order["processes"] > 1))
    return walls


def _limit(order: dict[str, Any]) -> str:
    mb = 1 << 20
    limits = {
        resource.RLIMIT_CPU: order["cpu_s"],
        resource.RLIMIT_AS: order["memory_mb"] * mb,
        resource.RLIMIT_FSIZE: order["file_mb"] * mb,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_NPROC: _threads_of(order["uid"] or os.getuid()) + order["processes"] + _THREADS,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        # At the first limit of processor time a signal warns the program; at the second limit another signal kills it.
        most = value + 1 if limit == resource.RLIMIT_CPU else value
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (min(value, most), most))
    return "limits"


def _threads_of(uid: int) -> int:
    """Count a user's threads on the whole machine, as the kernel does for its limit."""
    count = 0
    for process in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            if os.stat(f"/proc/{process}").st_uid == uid:
                count += len(os.listdir(f"/proc/{process}/task"))
        except OSError:  # the process has ended
            continue
    return count


def _drop_user(uid: int | None, readable: list[str]) -> str:
    """Become a user without files if possible, and in any case a user without privileges."""
    user = "the same user"
    if uid is not None and _can_become(uid, readable):
        os.chown(".", uid, uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        user = "an unused user"
    give_up_capabilities()
    return f"{user}, without privileges"


def _can_become(uid: int, readable: list[str]) -> bool:
    """Whether another user exists in this namespace and can read Python's library."""
    folders = [path for path in (*readable, *sys.path) if os.path.isdir(path)]
    try:
        os.seteuid(uid)
        for folder in folders:
            os.scandir(folder).close()
    except OSError:
        return False
    finally:
        os.seteuid(0)
    return True


def _run(source: str) -> None:
    """Run the program as the main module of this interpreter."""
    sys.dont_write_bytecode = True
    sys.argv[:] = ["<program>"]
    main_module = sys.modules["__main__"] = ModuleType("__main__")
    main_module.__dict__["__builtins__"] = __builtins__
    code: CodeType = compile(source, "<program>", "exec", dont_inherit=True)
    exec(code, main_module.__dict__)  # noqa: S102 - the program, behind the walls


def _supervise(program: int, wall_s: float) -> dict[str, Any]:
    """Wait for the program until its deadline or the launcher's request; leave none of its processes behind."""
    started = time.monotonic()
    exit_code, timed_out = None, False
    while exit_code is None:
        left = started + wall_s - time.monotonic()
        got = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, max(left, 0.0))
        if got is None or got.si_signo == signal.SIGTERM:
            timed_out = got is None
            break
        exit_code = _reap(program)
    seconds = time.monotonic() - started
    _kill_strays()
    exit_code = -signal.SIGKILL if exit_code is None else exit_code
    return {"exit_code": exit_code, "timed_out": timed_out or exit_code == -signal.SIGXCPU, "seconds": seconds}


def _reap(program: int) -> int | None:
    """Collect ended processes; return the program's exit code if the program is among them."""
    exit_code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return exit_code
        if pid == 0:
            return exit_code
        if pid == program:
            exit_code = os.waitstatus_to_exitcode(status)


def _kill_strays() -> None:
    """Kill every process below this one. As their subreaper, it becomes the parent of each orphan."""
    if os.getpid() == 1:
        return  # all processes end with the first process of their namespace
    for _ in range(_STRAY_ROUNDS):
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return  # every process below this one is or becomes its child
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def _children() -> list[int]:
    parent_id, children = str(os.getpid()), []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except OSError:  # the process has ended
            continue
        if parent == parent_id:
            children.append(int(process))
    return children
