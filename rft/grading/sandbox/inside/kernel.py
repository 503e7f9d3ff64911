"""System calls that Python's standard library does not offer."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def libc(function: str, *arguments: object) -> int:
    """Call a function of the C library.

    Raises:
        OSError: The function returned -1; the message names it.
    """
    return _checked(function, getattr(_libc, function)(*arguments))


def syscall(name: str, number: int, *arguments: object) -> int:
    """Make a system call that the C library does not offer; every argument is passed as a long or a pointer.

    Raises:
        OSError: The call returned -1; the message names it.
    """
    plain = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(name, _libc.syscall(ctypes.c_long(number), *plain))


def prctl(option: int, value: int, third: object = None) -> None:
    """Set a property of this process.

    Raises:
        OSError: The kernel refused.
    """
    zero = ctypes.c_ulong(0)
    libc("prctl", ctypes.c_int(option), ctypes.c_ulong(value), zero if third is None else third, zero, zero)


def give_up_capabilities() -> None:
    """Empty the permitted, effective and inheritable capabilities of this process.

    Raises:
        OSError: The kernel refused.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    libc("capset", header, (ctypes.c_uint32 * 6)())


def _checked(name: str, result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
