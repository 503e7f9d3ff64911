"""The ladder: programs run as they should, and what tries to get out stays in. At every rung that works here."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from rft.grading.sandbox import Limits, Sandbox, SandboxError, probe, probe_rungs
from rft.grading.sandbox.probe import RungReport
from rft.grading.sandbox.zygote import end_process_zygote

pytestmark = pytest.mark.e2e  # real limits: too slow for a unit test

SAFETY_S = 60.0
"""A deadline that nothing comes near to, however busy the machine is."""
SHORT = Limits(wall_s=SAFETY_S, cpu_s=2, memory_mb=512, output_bytes=10_000, file_mb=2)


def at_rung(rung, **options):
    report = probe_rungs()[rung]
    if not report.works:
        pytest.skip(f"rung {rung} does not work here: {report.reason}")
    return Sandbox(rung, allow_unsafe=True, **options)


@pytest.fixture(params=[0, 1, 2])
def sandbox(request):
    return at_rung(request.param)


@pytest.fixture(params=[1, 2])
def walled(request):
    return at_rung(request.param)


def test_a_program_runs(sandbox):
    result = sandbox.run("import sys\nprint(input()[::-1])\nprint('oh', file=sys.stderr)\nsys.exit(3)", "abc\n")
    assert (result.stdout, result.stderr_tail, result.exit_code) == ("cba\n", "oh\n", 3)
    assert (result.timed_out, result.truncated, result.rung) == (False, False, sandbox.rung)


def test_a_program_is_a_main_module_with_a_folder_of_its_own(sandbox, monkeypatch):
    monkeypatch.setenv("JUDGE_API_KEY", "secret")
    source = """
import asyncio, os, sys, tempfile, threading
assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
assert os.listdir() == [] and "JUDGE_API_KEY" not in os.environ and len(os.environ) == 7
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("x"); file.seek(0); assert file.read() == "x"
os.mkdir("d"); os.rename("d", "e")
async def main(): await asyncio.sleep(0)
asyncio.run(main())
thread = threading.Thread(target=print, args=("thread",)); thread.start(); thread.join()
"""
    result = sandbox.run(source, limits=SHORT)
    assert (result.stdout, result.stderr_tail) == ("thread\n", "")


def test_a_program_inherits_nothing_but_its_streams(sandbox):
    source = """
import os, sys
def is_open(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
print([fd for fd in range(3, 256) if is_open(fd)], [name for name in sys.modules if name.startswith("rft")])
"""
    assert sandbox.run(source).stdout == "[] []\n"


def test_the_order_of_sets_is_the_same_each_time(sandbox):
    source = "print({'a', 'b', 'c', 'd', 'e'}, hash('x'))"
    assert sandbox.run(source).stdout == sandbox.run(source).stdout


@pytest.mark.parametrize("source", ["def", "x = '\\ud800'; print(x)", "\0", "raise SystemError", "1/0"])
def test_whatever_a_program_does_is_a_result(sandbox, source):
    assert sandbox.run(source).exit_code == 1


@pytest.mark.parametrize("source", ["exit(3)", "quit(3)", "import sys; sys.exit(3)", "raise SystemExit(3)"])
def test_a_program_may_end_itself_in_each_of_pythons_ways(sandbox, source):
    assert sandbox.run(f"print(1)\n{source}\nprint(2)").stdout == "1\n"
    assert sandbox.run(source).exit_code == 3


def test_signals_end_up_in_the_exit_code(sandbox):
    assert sandbox.run("import os\nos.kill(os.getpid(), 9)").exit_code == -9


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(60)", "input = open(0).read; 9**9**9"])
def test_an_endless_program_is_ended(sandbox, source):
    result = sandbox.run(source, limits=Limits(wall_s=0.5))
    assert result.timed_out and result.exit_code == -9


def test_processor_time_is_limited(sandbox):
    result = sandbox.run("while True: pass", limits=Limits(wall_s=SAFETY_S, cpu_s=1))
    assert result.exit_code in (-9, -24) and result.seconds < SAFETY_S  # not at its deadline


def test_memory_is_limited(sandbox):
    result = sandbox.run("x = bytearray(2 << 30)", limits=SHORT)
    assert result.exit_code == 1 and "MemoryError" in result.stderr_tail


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_limited(sandbox, stream):
    result = sandbox.run(f"import sys\nwhile True: sys.{stream}.write('x' * 1000)", limits=SHORT)
    assert (
        result.truncated
        and not result.timed_out
        and len(result.stdout) <= SHORT.output_bytes
        and len(result.stderr_tail) <= 4000
    )


def test_files_are_limited(sandbox):
    result = sandbox.run("open('big', 'wb').write(bytes(3 << 20))", limits=SHORT)
    assert result.exit_code == 1 and "OSError" in result.stderr_tail


def test_all_files_together_are_limited_in_namespaces():
    source = "for n in range(4):\n  with open(str(n), 'wb') as file: file.write(bytes(1 << 20))"
    assert "No space left" in at_rung(2).run(source, limits=SHORT).stderr_tail


def test_nothing_is_left_behind(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox.run("open('file', 'w').write('x')", limits=SHORT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rung", [0, 1, 2])
def test_processes_that_escape_from_their_group_are_ended(rung):
    sandbox, mark = at_rung(rung), f"stray-{os.getpid()}-{rung}"
    source = f"""
import os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import ctypes
        ctypes.CDLL(None).prctl(15, b"{mark[:15]}", 0, 0, 0)  # its name
        os.write(writing, b"x")
        time.sleep({10 * SAFETY_S})
    os._exit(0)
os.read(reading, 1)
print("done")
"""
    result = sandbox.run(source, limits=Limits(wall_s=SAFETY_S, processes=4))
    assert result.stdout == "done\n"
    names = [path.read_text().strip() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    assert mark[:15] not in names


def test_a_fork_bomb_does_not_go_off(walled):
    source = """
import os
forks = 0
for _ in range(10_000):
    try:
        if os.fork() == 0:
            import time; time.sleep(60)
        forks += 1
    except OSError:
        break
print(forks)
"""
    assert walled.run(source, limits=SHORT).stdout == "0\n"


def test_a_bounded_number_of_processes_where_they_are_allowed():
    source = "import os, time\nforks = 0\ntry:\n  while os.fork(): forks += 1\n  time.sleep(60)\n"
    source += "except OSError: print(forks)"
    sandbox = at_rung(2)
    result = sandbox.run(source, limits=Limits(wall_s=SAFETY_S, processes=4))
    assert 4 <= int(result.stdout) <= 4 + 64


def test_no_network(walled):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1).send(b'x')"
        result = walled.run(source, limits=SHORT)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert result.exit_code == 1 and "PermissionError" in result.stderr_tail


def test_files_outside_are_out_of_reach(walled, tmp_path):
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_text("hidden tests")
    os.chmod(tmp_path, 0o777)
    os.chmod(secret, 0o666)
    source = f"""
import os, shutil
def tried(name, call, *arguments):
    try:
        call(*arguments)
        print("could", name)
    except (OSError, MemoryError):
        pass
tried("read", open, {str(secret)!r})
tried("write", open, {str(secret)!r}, "w")
tried("create", open, {str(new)!r}, "w")
tried("list", os.listdir, {str(tmp_path)!r})
tried("delete", os.unlink, {str(secret)!r})
tried("move", os.rename, {str(secret)!r}, {str(new)!r})
tried("link", os.link, {str(secret)!r}, "here")
tried("chmod", os.chmod, {str(secret)!r}, 0)
tried("touch", os.utime, {str(secret)!r})
tried("truncate", os.truncate, {str(secret)!r}, 0)
os.symlink({str(secret)!r}, "link")
tried("read by a link", open, "link")
tried("passwords", open, "/etc/passwd")
tried("environment of its parent", open, f"/proc/{{os.getppid()}}/environ")
tried("memory of its parent", open, f"/proc/{{os.getppid()}}/mem", "wb")
tried("own memory", open, "/proc/self/mem", "wb")
tried("raise its score with the killer", open, "/proc/self/oom_score_adj", "w")
tried("start a program", os.execv, "/bin/sh", ["sh", "-c", "exit"])
tried("list the temporary folder", os.listdir, "/tmp")
tried("become root", os.setuid, 0) if os.getuid() else None
tried("write the library", open, os.__file__, "a")
print("end")
"""
    result = walled.run(source, limits=SHORT)
    assert (result.stdout, result.stderr_tail) == ("end\n", "")
    assert secret.read_text() == "hidden tests" and not new.exists()


def test_other_processes_are_out_of_reach(walled):
    source = f"""
import os, resource
for call in (lambda: os.kill({os.getpid()}, 0), lambda: os.kill(-1, 0), lambda: os.kill(0, 15),
             lambda: os.killpg({os.getpgrp()}, 0), lambda: os.kill(os.getppid(), 9),
             lambda: resource.prlimit({os.getpid()}, resource.RLIMIT_CPU)):
    try:
        call()
        print("could")
    except OSError:
        pass
os.kill(os.getpid(), 0)
"""
    result = walled.run(source, limits=SHORT)
    assert (result.stdout, result.exit_code) == ("", 0)


def test_kernel_interfaces_are_closed(walled):
    source = """
import ctypes, platform
numbers = {"x86_64": (101, 165, 272, 321, 425, 250, 308), "aarch64": (117, 40, 97, 280, 425, 219, 268)}
libc = ctypes.CDLL(None, use_errno=True)
print([libc.syscall(number, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() for number in numbers[platform.machine()]])
"""
    assert json.loads(walled.run(source, limits=SHORT).stdout) == [1] * 7


def test_files_in_memory_which_no_limit_counts_are_refused(walled):
    source = "import os\ntry: os.memfd_create('x')\nexcept PermissionError: print('refused')"
    assert walled.run(source, limits=SHORT).stdout == "refused\n"


def test_installed_packages_only_where_they_are_wanted():
    source = "import numpy; print(int(numpy.dot(numpy.ones((99, 99)), numpy.ones(99)).sum()))"
    assert at_rung(probe_rungs()[-1].rung, packages=True).run(source).stdout == "9801\n"
    assert "ModuleNotFoundError" in at_rung(probe_rungs()[-1].rung).run(source).stderr_tail


def test_many_at_a_time_and_no_more():
    sandbox = Sandbox(allow_unsafe=True, max_concurrency=2)

    async def all_of_them():
        return await asyncio.gather(*(sandbox.arun(f"print({number})") for number in range(6)))

    assert [result.stdout for result in asyncio.run(all_of_them())] == [f"{number}\n" for number in range(6)]
    assert sandbox._pool._max_workers == 2


def test_the_best_rung_is_chosen_and_described():
    working = [report for report in probe_rungs() if report.works]
    sandbox = Sandbox(allow_unsafe=True)
    assert sandbox.rung == working[-1].rung
    described = json.loads(json.dumps(sandbox.describe()))
    assert described["rung"] == sandbox.rung and "limits" in described["walls"]
    assert len(described["unavailable"]) == 3 - len(working)


def reports(*working):
    names = ("limits", "Landlock and seccomp", "namespaces")
    return lambda: tuple(
        RungReport(rung=rung, name=name, works=rung in working, walls=(), reason="" if rung in working else "not here")
        for rung, name in enumerate(names)
    )


def test_the_lowest_rung_is_refused_unless_allowed(monkeypatch):
    with pytest.raises(SandboxError, match="allow_unsafe"):
        Sandbox(0)
    monkeypatch.setattr("rft.grading.sandbox.run.probe_rungs", reports(0))
    with pytest.raises(SandboxError, match=r"rung 2 \(namespaces\): not here"):
        Sandbox()
    assert Sandbox(allow_unsafe=True).rung == 0
    monkeypatch.setattr("rft.grading.sandbox.run.probe_rungs", reports(0, 1))
    assert Sandbox().rung == 1
    with pytest.raises(SandboxError, match="not here"):
        Sandbox(2, allow_unsafe=True)
    with pytest.raises(SandboxError, match="rung 3 does not exist"):
        Sandbox(3)


def test_a_rung_that_does_not_hold_does_not_work():
    """What the probe's program could do decides, not what the kernel claims."""
    could = {"read a file outside": True, "open a socket": False}
    assert "could read a file outside" in probe._judged(1, "n", json.dumps({"nonce": "n", "can": could}), "")
    assert probe._judged(0, "n", json.dumps({"nonce": "n", "can": could}), "") == ""
    assert "an unexpected text" in probe._judged(0, "n", json.dumps({"nonce": "m", "can": {}}), "")
    assert "No module" in probe._judged(0, "n", "", "Traceback\nModuleNotFoundError: No module named 'x'")


def test_walls_that_do_not_stand_are_an_error_and_the_program_does_not_run(tmp_path, monkeypatch):
    sandbox = at_rung(0)
    boot = tmp_path / "boot.py"
    boot.write_text("raise SystemExit('no walls')")
    monkeypatch.setattr("rft.grading.sandbox.zygote._BOOT", str(boot))
    end_process_zygote()  # the next one starts with the other script
    with pytest.raises(SandboxError, match="no walls"):
        sandbox.run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert not (tmp_path / "ran").exists()


def test_a_program_finds_nothing_that_another_left(sandbox):
    first = "import builtins, json, os, sys\nbuiltins.left = json.left = sys.left = 1\nos.environ['LEFT'] = '1'"
    second = "import builtins, json, os, sys\n"
    second += "print([hasattr(one, 'left') for one in (builtins, json, sys)], 'LEFT' in os.environ)"
    assert sandbox.run(first).exit_code == 0
    assert sandbox.run(second).stdout == "[False, False, False] False\n"


def test_random_numbers_differ_between_programs(sandbox):
    source = "import random, uuid; print(random.random(), uuid.uuid4())"
    first, second = (sandbox.run(source).stdout.split() for _ in range(2))
    assert first[0] != second[0] and first[1] != second[1]


def test_what_a_program_leaves_to_the_end_of_the_interpreter_is_done(sandbox):
    source = """
import atexit, threading, time
out = open(1, "w", closefd=False)
out.write("unflushed\\n")
atexit.register(print, "at exit", flush=True)
def later():
    time.sleep(0.05)
    print("thread", flush=True)
threading.Thread(target=later).start()
"""
    assert sandbox.run(source).stdout == "thread\nat exit\nunflushed\n"


def test_a_program_that_kills_the_zygote_costs_nobody_else():
    """Possible at rung 0 only. Its own supervisor dies with the zygote, and the next program gets another one."""
    source = """
import os, time
parent = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1]
os.kill(int(parent), 9)
time.sleep(60)
"""
    sandbox = at_rung(0)
    assert sandbox.run(source, limits=Limits(wall_s=20.0)).exit_code == -9
    assert sandbox.run("print(4)").stdout == "4\n"


def test_a_forked_process_has_a_zygote_of_its_own(sandbox):
    assert sandbox.run("print(4)").stdout == "4\n"
    forked = os.fork()
    if forked == 0:
        os._exit(0 if sandbox.run("print(5)").stdout == "5\n" else 1)
    assert os.waitpid(forked, 0)[1] == 0
    assert sandbox.run("print(6)").stdout == "6\n"


@pytest.mark.parametrize("wrong", [{"wall_s": 0}, {"wall_s": float("nan")}, {"memory_mb": -1}, {"cpu_s": 0.5}])
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
