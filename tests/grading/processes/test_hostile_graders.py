"""Graders that harm their process, other processes or the disk: they cost their own reward, and the others go on."""

import os

import psutil
import pytest

from rft.grading import Status
from rft.grading.processes import fork_server

SAFETY_S = 300.0

HOSTILE = r"""
import os, shutil, signal, sys, time

def first(mark):
    "Whether this is the first call with this mark."
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def others(process):
    children = open(f"/proc/{process}/task/{process}/children").read().split()
    return [int(child) for child in children if int(child) != os.getpid()]

def harm(completion):
    if completion == "fine":
        return 0.5
    if completion == "slow":
        time.sleep(0.2)
        return 0.5
    if completion == "memory":
        return len(bytearray(1 << 40)) and 0.5
    if completion == "memory in pieces":
        kept = []
        while True:
            kept.append(bytearray(1 << 20))
    if completion == "siblings" and first("siblings"):
        while not others(os.getppid()):
            time.sleep(0.01)
        for process in others(os.getppid()):
            os.kill(process, signal.SIGKILL)
    if completion == "parent" and first("parent"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)
    if completion == "suspended parent" and first("suspended parent"):
        os.kill(os.getppid(), signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGKILL)
    if completion == "suspended" and first("suspended"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if completion == "killed" and first("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if completion == "folder":
        os.chdir("/")
    if completion == "where":
        return float(os.path.exists("mine.py"))
    if completion == "run folder":
        shutil.rmtree("run")
        raise ValueError("and it fails, which cannot be logged")
    if completion == "noise":
        for _ in range(1 << 7):
            os.write(1, b"x" * ((1 << 20) - 1) + b"\n")
    return 0.5

async def moving(completion):
    os.chdir("/")
    return 0.5
"""


def values(scores):
    return [score.value for score in scores["g"]]


@pytest.mark.parametrize("completion", ["memory", "memory in pieces"])
def test_memory_is_limited_for_each_worker(bench, completion):
    bench.file(HOSTILE)
    texts = ["fine", completion, "fine"]
    scores, panel = bench.grade({"g": bench.spec("harm")}, texts, worker_memory_mb=64)
    assert values(scores) == [0.5, None, 0.5]
    assert scores["g"][1].status is Status.GRADER_ERROR
    assert scores["g"][1].reason.startswith("MemoryError")
    assert panel.workers_replaced == 0


def test_the_limit_comes_on_top_of_the_loaded_graders(bench):
    bench.file("held = bytearray(128 << 20)\ndef g(completion): return len(bytearray(16 << 20)) and 1.0\n")
    scores, _ = bench.grade({"g": bench.spec("g")}, ["x"], worker_memory_mb=64)
    assert values(scores) == [1.0]


def test_a_worker_that_is_killed_from_outside_costs_no_reward(bench, caplog):
    bench.file(HOSTILE)
    repeated = []
    specs, texts = {"g": bench.spec("harm")}, ["fine", "killed", "fine"]
    scores, panel = bench.grade(specs, texts, on_repeat=lambda *call: repeated.append(call))
    assert values(scores) == [0.5] * 3
    assert repeated == [("g", "a", "its worker process was ended by SIGKILL")]
    assert (panel.workers_replaced, panel.calls_repeated) == (1, 1)
    assert "grader 'g' on task a: its worker process was ended by SIGKILL; the call is repeated" in caplog.text


def test_a_worker_that_is_suspended_costs_its_deadline_and_no_reward(bench):
    bench.file(HOSTILE)
    scores, panel = bench.grade({"g": bench.spec("harm", timeout_s=1.0)}, ["suspended", "fine"])
    assert values(scores) == [0.5, 0.5]
    assert (panel.workers_replaced, panel.calls_repeated) == (1, 1)


def test_a_grader_that_kills_the_other_workers(bench):
    bench.file(HOSTILE)
    scores, _ = bench.grade({"g": bench.spec("harm", timeout_s=SAFETY_S)}, ["siblings", *["slow"] * 4])
    assert values(scores) == [0.5] * 5
    assert psutil.Process().children(recursive=True) == []


def test_a_grader_that_kills_the_process_that_forks_workers(bench):
    bench.file(HOSTILE)
    scores, _ = bench.grade({"g": bench.spec("harm", timeout_s=SAFETY_S)}, ["fine", "parent", "fine"])
    assert values(scores) == [0.5] * 3
    assert psutil.Process().children(recursive=True) == []


def test_a_process_that_hangs_instead_of_forking_is_replaced(bench, monkeypatch):
    monkeypatch.setattr(fork_server, "END_S", 1.0)
    monkeypatch.setattr(fork_server, "FORK_S", 5.0)
    bench.file(HOSTILE)
    scores, _ = bench.grade({"g": bench.spec("harm", timeout_s=SAFETY_S)}, ["suspended parent", "fine"])
    assert values(scores) == [0.5, 0.5]
    assert psutil.Process().children(recursive=True) == []


def test_the_process_that_forks_workers_is_killed_while_it_loads_the_graders(bench):
    bench.file(
        "import os, signal\n"
        "if os.path.exists('loading'):\n"
        "    os.remove('loading')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def g(completion): return 1.0\n"
    )
    panel = bench.panel({"g": bench.spec("g")})
    open("loading", "w").close()
    scores, _ = bench.grade({"g": None}, ["x"], panel=panel)
    assert values(scores) == [1.0]


def test_no_worker_can_be_forked(bench):
    bench.file(
        "import errno, os\n"
        "def no_fork(): raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "if os.path.exists('no more'): os.fork = no_fork\n"
        "def g(completion): return 1.0\n"
    )
    panel = bench.panel({"g": bench.spec("g")})
    open("no more", "w").close()
    scores, _ = bench.grade({"g": None}, ["x"], panel=panel)
    assert scores["g"][0].status is Status.GRADER_ERROR
    reason = "a worker process for the graders could not be started: Resource temporarily unavailable (2 attempts)"
    assert scores["g"][0].reason == reason


@pytest.mark.parametrize("use", ["harm", "moving"])
def test_a_grader_that_changes_the_folder(bench, use):
    bench.file(HOSTILE)
    specs = {"g": bench.spec(use), "h": bench.spec("harm")}
    scores, _ = bench.grade(specs, ["folder", "where", "folder", "where"], num_workers=1)
    assert [score.value for score in scores["h"]] == [0.5, 1.0, 0.5, 1.0]
    assert os.getcwd() == str(bench.folder)


def test_a_grader_that_deletes_the_run_folder(bench, caplog):
    bench.file(HOSTILE)
    folder = bench.folder / "run"
    folder.mkdir()
    scores, _ = bench.grade({"g": bench.spec("harm")}, ["run folder", "fine"], log_folder=folder)
    assert values(scores) == [None, 0.5]
    assert "1 more could not be written (No such file or directory)" in caplog.text


@pytest.mark.e2e  # takes a second or more
def test_a_grader_that_prints_128_megabytes(bench, caplog):
    bench.file(HOSTILE)
    folder = bench.folder / "run"
    folder.mkdir()
    before = psutil.Process().memory_info().rss
    scores, _ = bench.grade({"g": bench.spec("harm", timeout_s=SAFETY_S)}, ["noise", "fine"], log_folder=folder)
    assert values(scores) == [0.5, 0.5]
    assert (folder / "grader_output.txt").stat().st_size == 1 << 20
    assert f"{(1 << 27) - (1 << 20):,} more bytes did not fit" in caplog.text
    assert psutil.Process().memory_info().rss - before < 64 << 20
