"""Namespaces: the program has no network, sees only its own processes, and has an almost empty root folder.

Sources: unshare(2), user_namespaces(7), pivot_root(2), mount_setattr(2) (from Linux 5.12 on).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from rft.grading.sandbox.inside.kernel import libc, syscall

WORK = "/rft-program"
"""The program's folder in memory, inside its root folder."""

_NEW_MOUNT, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_NO_SUID, _NO_DEVICES, _NO_EXECUTE, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_DETACH = 2


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def enter(base: str, readable: Iterable[str], *, size_mb: int) -> str:
    """Move this process into new namespaces and a new root folder. Its next child is their first process.

    Args:
        base: An empty folder for building the new root; it stays empty outside.
        readable: Files and folders that the new root shows under the same paths.
        size_mb: Maximum size of the program's files.

    Returns:
        A description of the wall.

    Raises:
        OSError: The kernel refused.
    """
    namespaces = _NEW_MOUNT | _NEW_UTS | _NEW_IPC | _NEW_PID | _NEW_NET
    user, group = os.geteuid(), os.getegid()
    try:
        libc("unshare", namespaces)
        how = "namespaces"
    except PermissionError:  # an unprivileged process needs a user namespace, in which it has privileges
        libc("unshare", namespaces | _NEW_USER)
        how = "namespaces, of an unprivileged user"
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _build(base, readable, size_mb)
    os.chdir(base)
    syscall("pivot_root", _PIVOT_ROOT[os.uname().machine], b".", b".")
    libc("umount2", b".", _DETACH)
    os.chdir(WORK)
    return how


def _build(base: str, readable: Iterable[str], size_mb: int) -> None:
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", base, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXECUTE, "size=64k,nr_inodes=1k,mode=755")
    for path in readable:
        target = base + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "x").close()
        else:
            continue
        _mount(path, target, None, _BIND | _RECURSIVE)
        if not path.startswith("/dev/"):
            attributes = _Attributes(1 | _NO_SUID | _NO_DEVICES)  # 1: read-only
            size = ctypes.sizeof(attributes)
            arguments = (_AT_FDCWD, target.encode(), _AT_RECURSIVE, ctypes.byref(attributes), size)
            syscall("mount_setattr", _MOUNT_SETATTR, *arguments)
    for link in ("/lib", "/lib64"):  # links into /usr are covered by /usr itself
        if os.path.islink(link) and not os.path.lexists(base + link):
            os.symlink(os.readlink(link), base + link)
    os.mkdir(base + WORK)
    _mount("tmpfs", base + WORK, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXECUTE, f"size={size_mb}m,mode=700")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded_kind = kind.encode() if kind else None
    libc("mount", source.encode(), target.encode(), encoded_kind, ctypes.c_ulong(flags), options.encode() or None)
