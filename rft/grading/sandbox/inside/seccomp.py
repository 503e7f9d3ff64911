"""Seccomp: system calls that a grading program does not need fail with "not permitted".

The filter refuses sockets, other processes (starting programs, tracing, reading their memory, signals), exposed parts
of the kernel (bpf, io_uring, keys, modules, mounts, namespaces), changes to files that Landlock does not cover (modes,
owners, times), and files in memory, which no limit of a process counts. It allows all other calls, since Python and its
libraries use many.

Source: the kernel's `Documentation/userspace-api/seccomp_filter.rst`; the numbers are those of its tables
`arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct

from rft.grading.sandbox.inside.kernel import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

_MODE_FILTER = 2
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data; both architectures are little-endian
_X32 = 0x40000000
"""First number of the calls of x86-64's second ABI."""

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's name of each supported architecture."""

_SAME_EVERYWHERE = (
    *range(424, 427 + 1),  # pidfd_send_signal, io_uring_setup, io_uring_enter, io_uring_register
    *range(428, 433 + 1),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    *(434, 438, 440, 442, 443),  # pidfd_open, pidfd_getfd, process_madvise, mount_setattr, quotactl_fd
    *(447, 452),  # memfd_secret, fchmodat2
)
_REFUSED = {
    "x86_64": (
        *(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241),  # shm*, sem*, msg*, mq_open, mq_unlink
        *(41, 42, 43, 49, 50, 288),  # socket, connect, accept, bind, listen, accept4
        *(59, 322),  # execve, execveat
        *(76, 90, 91, 92, 93, 94, 132, 133, 235),  # truncate, *chmod, *chown, utime, mknod, utimes
        *range(188, 190 + 1),  # setxattr, lsetxattr, fsetxattr
        *range(197, 199 + 1),  # removexattr, lremovexattr, fremovexattr
        *(259, 260, 261, 268, 280),  # mknodat, fchownat, futimesat, fchmodat, utimensat
        *(101, 129, 200, 297, 310, 311, 312),  # ptrace, rt_*sigqueueinfo, tkill, process_vm_*, kcmp
        *(103, 135, 153, 154, 155, 159, 161, 163),  # syslog, personality, vhangup, modify_ldt, pivot_root, ..., acct
        *range(164, 173 + 1),  # settimeofday, mount, umount2, swap*, reboot, set*name, iopl, ioperm
        *(175, 176, 179, 212, 227, 246),  # *_module, quotactl, lookup_dcookie, clock_settime, kexec_load
        *range(248, 250 + 1),  # add_key, request_key, keyctl
        *(141, 142, 144, 203, 251, 256, 279, 314),  # setpriority, sched_set*, ioprio_set, migrate_pages, move_pages
        *(
            272,
            298,
            300,
            303,
            304,
            305,
            308,
        ),  # unshare, perf_event_open, fanotify_init, *_handle*, clock_adjtime, setns
        *(313, 319, 320, 321, 323),  # finit_module, memfd_create, kexec_file_load, bpf, userfaultfd
    ),
    "aarch64": (
        *(180, 181, *range(186, 197 + 1)),  # mq_open, mq_unlink, msg*, sem*, shm*
        *(198, *range(200, 203 + 1), 242),  # socket, bind, listen, accept, connect, accept4
        *(221, 281),  # execve, execveat
        *(5, 6, 7, 14, 15, 16, 33, 45, 52, 53, 54, 55, 88),  # *xattr, mknodat, truncate, *chmod*, *chown*, utimensat
        *(117, 130, 138, 240, 270, 271, 272),  # ptrace, tkill, rt_*sigqueueinfo, process_vm_*, kcmp
        *(18, 30, 39, 40, 41, 51, 58, 60, 89),  # lookup_dcookie, ioprio_set, mounts, chroot, vhangup, quotactl, acct
        *(92, 97, 104, 105, 106, 112, 116),  # personality, unshare, kexec_load, *_module, clock_settime, syslog
        *(118, 119, 122, 140, 142, 161, 162, 170, 171),  # sched_set*, setpriority, reboot, set*name, settimeofday, ...
        *(217, 218, 219, 224, 225, 238, 239),  # add_key, request_key, keyctl, swap*, migrate_pages, move_pages
        *(241, 262, 264, 265, 266, 268),  # perf_event_open, fanotify_init, *_handle*, clock_adjtime, setns
        *(273, 274, 279, 280, 282, 294),  # finit_module, sched_setattr, memfd_create, bpf, userfaultfd, ...
    ),
}
_CLONE3 = 435
_FORK = {"x86_64": (57, 58), "aarch64": ()}
_CLONE = {"x86_64": 56, "aarch64": 220}
_KILL_CALLS = {"x86_64": (62, 234), "aarch64": (129, 131)}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(*, may_fork: bool) -> str:
    """Forbid the calls above permanently to this process and its descendants.

    Args:
        may_fork: Whether it may start further processes; threads are always allowed.

    Returns:
        A description of the wall.

    Raises:
        OSError: The architecture is not supported, or the kernel refused.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"seccomp: no table for {machine}, only for {', '.join(ARCHITECTURES)}")
    code = program(machine, own_pid=os.getpid(), may_fork=may_fork)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program(len(code) // 8, code)))
    return "seccomp" if may_fork else "seccomp, no further processes"


def program(machine: str, *, own_pid: int, may_fork: bool) -> bytes:
    """Return the filter for an architecture, as instructions of 8 bytes.

    Args:
        machine: `x86_64` or `aarch64`.
        own_pid: The only process that may be signalled.
        may_fork: Whether further processes may be started.
    """
    only_self = (own_pid,)
    signals = [line for number in _KILL_CALLS[machine] for line in _only_with(number, only_self)]
    return constant_part(machine, may_fork) + b"".join(
        [*signals, *_only_with(_PRLIMIT[machine], (0, *only_self)), *_clone(machine, may_fork), _result(_ALLOW)]
    )


@functools.cache
def constant_part(machine: str, may_fork: bool) -> bytes:
    """Return the first part of the filter, which is equal for all processes. The zygote makes this long part once."""
    refused = _SAME_EVERYWHERE + _REFUSED[machine] + (() if may_fork else _FORK[machine])
    not_permitted = _result(_FAIL | errno.EPERM)
    lines = [
        _line(_LOAD, _ARCHITECTURE),
        *_when(ARCHITECTURES[machine], skip_if_equal=True),
        _result(_KILL),
        _line(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [_line(_IF_AT_LEAST, _X32, 0, 1), _result(_KILL)]
    # A filter cannot read clone3's flags in memory; without clone3 the C library uses clone.
    lines += [*_when(_CLONE3), _result(_FAIL | errno.ENOSYS)]
    for number in refused:
        lines += [*_when(number), not_permitted]
    return b"".join(lines)


def _clone(machine: str, may_fork: bool) -> list[bytes]:
    """Allow threads, and processes if `may_fork`, but never in new namespaces."""
    not_permitted = _result(_FAIL | errno.EPERM)
    body = [_line(_LOAD, _FIRST_ARGUMENT), _line(_IF_ANY_BIT, _CLONE_NAMESPACES, 0, 1), not_permitted]
    if not may_fork:
        body += [_line(_IF_ANY_BIT, _CLONE_THREAD, 1, 0), not_permitted]
    return [_line(_IF_EQUAL, _CLONE[machine], 0, len(body)), *body]


def _line(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


def _result(value: int) -> bytes:
    return _line(_RETURN, value)


def _when(value: int, *, skip_if_equal: bool = False) -> list[bytes]:
    """Run the next instruction only if the loaded word has this value, or only if it has another value."""
    return [_line(_IF_EQUAL, value, 1, 0) if skip_if_equal else _line(_IF_EQUAL, value, 0, 1)]


def _only_with(number: int, arguments: tuple[int, ...]) -> list[bytes]:
    """Allow a call only if its first argument is one of these values."""
    checks = [line for value in arguments for line in (*_when(value), _result(_ALLOW))]
    body = [_line(_LOAD, _FIRST_ARGUMENT), *checks, _result(_FAIL | errno.EPERM)]
    return [_line(_IF_EQUAL, number, 0, len(body)), *body]
