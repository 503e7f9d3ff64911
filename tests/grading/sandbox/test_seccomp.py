"""The filters, run through an interpreter of their instructions: also for the architecture that we are not on."""

import struct

import pytest

from rft.grading.sandbox.inside.seccomp import ARCHITECTURES, program

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
NAMES = ("read", "mmap", "socketpair", "socket", "execve", "ptrace", "mount", "unshare", "memfd_create")
NUMBERS = {  # from the kernel's tables, by hand
    "x86_64": (0, 9, 53, 41, 59, 101, 165, 272, 319),
    "aarch64": (63, 222, 199, 198, 221, 117, 40, 97, 279),
}
SPECIAL = {
    "x86_64": {"clone": 56, "kill": 62, "tgkill": 234, "prlimit64": 302},
    "aarch64": {"clone": 220, "kill": 129, "tgkill": 131, "prlimit64": 261},
}
SAME = {"io_uring_setup": 425, "pidfd_getfd": 438, "mount_setattr": 442, "memfd_secret": 447}
THREAD, FORK, NEW_USER = 0x3D0F00, 17, 0x10000000 | 17


def verdict(code, machine, number, argument=0):
    """Run a filter as the kernel would; classic BPF, the five operations that it uses."""
    data = struct.pack("=IIQQ", number, ARCHITECTURES[machine], 0, argument)
    lines = list(struct.iter_unpack("=HBBI", code))
    at, word = 0, 0
    while True:
        operation, if_true, if_false, value = lines[at]
        at += 1
        if operation == 0x06:
            return value
        if operation == 0x20:
            (word,) = struct.unpack_from("=I", data, value)
        else:
            holds = {0x15: word == value, 0x35: word >= value, 0x45: bool(word & value)}[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_what_is_refused(machine):
    code = program(machine, own_pid=7, may_fork=False)
    for name, number in zip(NAMES, NUMBERS[machine], strict=True):
        harmless = name in ("read", "mmap", "socketpair")
        assert verdict(code, machine, number) == (ALLOW if harmless else EPERM), name
    for number in SAME.values():
        assert verdict(code, machine, number) == EPERM
    assert verdict(code, machine, 435) == ENOSYS


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize("may_fork", [False, True])
def test_threads_but_no_processes_and_never_namespaces(machine, may_fork):
    code = program(machine, own_pid=7, may_fork=may_fork)
    clone = SPECIAL[machine]["clone"]
    assert verdict(code, machine, clone, THREAD) == ALLOW
    assert verdict(code, machine, clone, FORK) == (ALLOW if may_fork else EPERM)
    assert verdict(code, machine, clone, NEW_USER) == EPERM


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_signals_and_limits_only_for_the_program_itself(machine):
    code = program(machine, own_pid=7, may_fork=True)
    for name in ("kill", "tgkill", "prlimit64"):
        assert verdict(code, machine, SPECIAL[machine][name], 7) == ALLOW, name
        assert verdict(code, machine, SPECIAL[machine][name], 8) == EPERM, name
        assert verdict(code, machine, SPECIAL[machine][name], 0xFFFFFFFF) == EPERM, name  # kill(-1, ...)
    assert verdict(code, machine, SPECIAL[machine]["kill"], 0) == EPERM  # its own process group
    assert verdict(code, machine, SPECIAL[machine]["prlimit64"], 0) == ALLOW  # itself


def test_another_architectures_calls_end_the_program():
    arm = program("aarch64", own_pid=7, may_fork=False)
    assert verdict(arm, "x86_64", 0) == KILL
    intel = program("x86_64", own_pid=7, may_fork=False)
    assert verdict(intel, "x86_64", 57) == EPERM  # fork, which the other does not have
    assert verdict(intel, "x86_64", 0x40000000 | 41) == KILL  # the x32 interface
