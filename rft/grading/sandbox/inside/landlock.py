"""Landlock: the program reads listed files, writes in its own folder, and reaches no other file.

Works without root, from Linux 5.13 on. Source: the kernel's `Documentation/userspace-api/landlock.rst` and
`include/uapi/linux/landlock.h`. Landlock does not cover reading a file's metadata, chmod, chown and similar calls;
`seccomp` forbids those that change files.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from rft.grading.sandbox.inside.kernel import PR_SET_NO_NEW_PRIVS, prctl, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_TRUNCATE = 1 << 14
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of file rights in each version of the interface; later versions have as many as the fifth."""

_READ = _READ_FILE | _READ_DIR
_OWN = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _TRUNCATE
_FILE_ONLY = _READ_FILE | _WRITE_FILE | _TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """Return the version of the kernel's interface; 0 if it is missing or disabled."""
    try:
        return syscall("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str]) -> str:
    """Confine this process permanently to some files and folders.

    Args:
        readable: Files and folders to read, but not to execute; missing ones are skipped.
        writable: Files and folders with all rights except execution.

    Returns:
        A description of the wall.

    Raises:
        OSError: The kernel has no Landlock, or refused.
    """
    version = abi()
    known = (1 << _RIGHTS_BY_ABI[min(max(version, 1), 5)]) - 1
    rules = _Ruleset(known, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = syscall("landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(rules), size, 0)
    for rights, paths in ((_READ, readable), (_OWN, writable)):
        for path in paths:
            _allow(ruleset, path, rights & known)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return f"Landlock {version}"


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = _PathBeneath(rights if os.path.isdir(path) else rights & _FILE_ONLY, parent)
        syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
