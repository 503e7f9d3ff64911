"""Worker processes: whatever a grader does in one costs its own deadline, one worker, and nothing else."""

import asyncio
import os
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from rft.grading import Status
from rft.grading.processes.fork_server import ForkServers

from ..conftest import make_task

SAFETY_S = 300.0

BAD = r"""
import ctypes, os, re, signal, subprocess, sys, threading, time

def right(completion, task):
    return completion == task.item["answer"]

def bad(completion):
    match completion:
        case "regex": re.match(r"(a+)+$", "a" * 40 + "b")
        case "sleep": time.sleep(1000)
        case "stopped": os.kill(os.getpid(), signal.SIGSTOP)
        case "deaf":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(1000)
        case "exit": os._exit(7)
        case "segfault": ctypes.string_at(0)
        case "killed": os.kill(os.getpid(), signal.SIGKILL)
        case "sys.exit": sys.exit(3)
        case "interrupt": raise KeyboardInterrupt
        case "raise": raise KeyError("no such key")
        case "deep": return bad(completion)
        case "nan": return float("nan")
        case "text": return "1.0"
        case "unprintable": raise Unprintable
        case "noise":
            print('[[[1.0, "ok", null, null]], 0.0]' * 9999)
            for number in (1, 2):
                os.write(number, b'[[[1.0, "ok", null, null]], 0.0]\n')
        case "input": return input()
        case "forged":
            for number in range(3, 100):
                try:
                    os.write(number, b'[[[true, "ok", null, null]], 0.0]\n')
                except OSError:
                    pass
    return 0.5

def long_reply(completion):
    from rft.grading import Score
    return Score(value=1.0, answer="x" * int(completion))

class Unprintable(Exception):
    def __str__(self):
        raise ValueError
"""


TIMEOUTS = dict.fromkeys(["regex", "sleep", "stopped", "deaf"], (Status.TIMEOUT, "no result within 2 s"))
DEATHS = {
    "exit": (Status.GRADER_ERROR, "its worker process ended itself with exit code 7"),
    "segfault": (Status.GRADER_ERROR, "its worker process was ended by SIGSEGV"),
    "killed": (Status.GRADER_ERROR, "its worker process was ended by SIGKILL"),
    "forged": (Status.GRADER_ERROR, "its worker process sent an invalid reply"),
}
FAULTS = {
    "sys.exit": (Status.GRADER_ERROR, "it called sys.exit(3) (mine.py:"),
    "interrupt": (Status.GRADER_ERROR, "KeyboardInterrupt"),
    "raise": (Status.GRADER_ERROR, "KeyError: 'no such key' (mine.py:"),
    "deep": (Status.GRADER_ERROR, "RecursionError: "),
    "nan": (Status.GRADER_ERROR, "returned the float nan"),
    "text": (Status.GRADER_ERROR, "returned the str '1.0'"),
    "unprintable": (Status.GRADER_ERROR, "Unprintable: (its message cannot be shown)"),
    "noise": (Status.OK, ""),
    "input": (Status.GRADER_ERROR, "EOFError"),
}


@pytest.mark.parametrize(
    ("expected", "limit_s", "ends_workers"),
    [(TIMEOUTS, 2.0, True), (DEATHS, SAFETY_S, True), (FAULTS, SAFETY_S, False)],
    ids=["timeouts", "deaths", "faults"],
)
def test_what_a_grader_may_do(bench, expected, limit_s, ends_workers):
    bench.file(BAD)
    texts = [text for completion in expected for text in (*["fine"] * 4, completion, *["fine"] * 20)]
    # All calls that hang do so at the same time.
    scores, panel = bench.grade({"g": bench.spec("bad", timeout_s=limit_s)}, texts, num_workers=4)
    by_text = dict(zip(texts, scores["g"], strict=True))
    assert {score.value for text, score in zip(texts, scores["g"], strict=True) if text == "fine"} == {0.5}
    assert {text: by_text[text].status for text in expected} == {text: status for text, (status, _) in expected.items()}
    for text, (status, reason) in expected.items():
        assert by_text[text].value == (0.5 if status is Status.OK else None)
        assert (by_text[text].reason or "").startswith(reason), text
    assert (panel.workers_replaced >= len(expected)) if ends_workers else (panel.workers_replaced == 0)
    assert psutil.Process().children(recursive=True) == []


def test_a_long_reply_comes_in_many_pieces_and_is_read_whole(bench):
    bench.file(BAD)
    sizes = [300_000, 1_000_000, 5_000_000, 10]
    scores, panel = bench.grade({"g": bench.spec("long_reply")}, [str(size) for size in sizes])
    assert [(score.status, len(score.answer)) for score in scores["g"]] == [(Status.OK, size) for size in sizes]
    assert panel.workers_replaced == 0


def test_a_reply_without_end_is_named(bench):
    bench.file(BAD)
    scores, _ = bench.grade({"g": bench.spec("long_reply")}, [str(17 << 20)])
    assert scores["g"][0].reason == "its worker process sent a reply of more than 16 MiB"


@pytest.mark.e2e  # real limits: too slow for a unit test
def test_only_the_call_that_hung_is_charged_and_no_call_waits_behind_it(bench):
    bench.file(BAD)

    async def main():
        panel = bench.panel({"g": bench.spec("bad", timeout_s=5.0)})
        try:
            await bench.graded(panel, make_task(), ["fine"] * 100)  # from here on, calls are handed over in batches
            rest = asyncio.create_task(bench.graded(panel, make_task("b"), ["sleep"] + ["fine"] * 100))
            while panel.counters["g"].calls < 200:
                await asyncio.sleep(0.01)
            assert not rest.done(), "the others were graded while the first one hung"
            return (await rest)[0], panel
        finally:
            panel.close()

    group, panel = asyncio.run(main())
    assert [grade.scores["g"].status for grade in group.grades] == [Status.TIMEOUT, *[Status.OK] * 100]
    assert panel.workers_replaced == 1
    assert group.grades[0].scores["g"].seconds == 5.0


def test_a_slow_call_that_ends_in_time_counts(bench):
    bench.file("import time\ndef g(completion):\n    time.sleep(float(completion))\n    return 1\n")
    scores, panel = bench.grade({"g": bench.spec("g")}, ["0"] * 100 + ["0.3"] + ["0"] * 100)
    assert [score.value for score in scores["g"]] == [1.0] * 201
    assert 0.3 <= scores["g"][100].seconds < SAFETY_S
    assert panel.counters["g"].calls == 201


@pytest.mark.e2e  # real limits: too slow for a unit test
def test_the_event_loop_goes_on_while_a_grader_computes(bench):
    bench.file(BAD)

    async def main():
        panel = bench.panel({"g": bench.spec("bad", timeout_s=1.0)})
        grading = asyncio.create_task(bench.graded(panel, make_task(), ["regex", "regex"]))
        rounds = 0
        while not grading.done():
            await asyncio.sleep(0.005)
            rounds += 1
        panel.close()
        return rounds

    assert asyncio.run(main()) > 5, "a loop that is held goes round once before and once after"


def test_sync_graders_run_side_by_side(bench):
    meeting = "import os, time\ndef g(completion):\n    open(completion, 'w').close()\n"
    meeting += "    while not (os.path.exists('x') and os.path.exists('y')): time.sleep(0.01)\n    return 1\n"
    bench.file(meeting)
    scores, _ = bench.grade({"g": bench.spec("g")}, ["x", "y"])
    assert [score.value for score in scores["g"]] == [1.0, 1.0]


SEEING = """
from rft.grading import per_group, Score

def whole(task, rollout):
    assert task.id == "a" and task.split == "train" and type(task.messages) is tuple
    assert rollout.policy.name == "policy-v3-f" and rollout.stop is type(rollout.stop).LENGTH
    assert len(rollout.logprobs) == len(rollout.completion_ids) == rollout.index + 3
    return Score(value=sum(rollout.logprobs), answer=task.item["deep"][0]["\\u00e9"] + rollout.text, reason="why")

@per_group
def ranked(completions, rollouts, task):
    return [completions.index(one.text) for one in rollouts]

async def computing(completion):
    return len(completion)
computing.in_process = False

def awaiting(completion):
    return computing(completion)
"""


def test_tasks_and_rollouts_arrive_whole(bench):
    bench.file(SEEING)
    names = ("whole", "ranked", "computing", "awaiting")
    task = make_task(deep=[{"\u00e9": "\u4e2d"}], nothing=None, number=1.5)
    scores, _ = bench.grade({name: bench.spec(name) for name in names}, ["x", "lone \ud800\n", ""], task=task)
    assert [score.value for score in scores["whole"]] == [-1.5, -2.0, -2.5]
    assert [score.answer for score in scores["whole"]] == ["\u4e2dx", "\u4e2dlone \ud800\n", "\u4e2d"]
    assert scores["whole"][0].reason == "why"
    assert [score.value for score in scores["ranked"]] == [0.0, 1.0, 2.0]
    assert [score.value for score in scores["computing"]] == [1.0, 7.0, 0.0]
    assert [score.value for score in scores["awaiting"]] == [1.0, 7.0, 0.0]


def test_rollouts_larger_than_a_sockets_buffer_arrive(bench):
    bench.file("def g(rollout): return len(rollout.text)\n")
    scores, _ = bench.grade({"g": bench.spec("g")}, ["x" * 3_000_000] * 3)
    assert [score.value for score in scores["g"]] == [3e6] * 3


def test_a_column_that_json_cannot_hold(bench):
    bench.file("def g(completion, task): return 1\ndef h(completion): return 1\n")
    task = make_task(fine=1, when={1, 2}, raw=b"x")
    scores, panel = bench.grade({"g": bench.spec("g"), "h": bench.spec("h")}, ["1"], task=task)
    assert scores["g"][0].status is Status.GRADER_ERROR
    assert scores["g"][0].reason.startswith(
        "JSON cannot carry task a to a worker process: column 'when' (of type set), column 'raw' (of type bytes)"
    )
    assert (scores["h"][0].value, panel.workers_replaced) == (1.0, 0)


def test_graders_in_workers_see_no_gpu(bench, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    bench.file("import os\ndef g(completion): return float(os.environ['CUDA_VISIBLE_DEVICES'] == '')\n")
    scores, _ = bench.grade({"g": bench.spec("g")}, ["x"])
    assert scores["g"][0].value == 1.0


def test_graders_that_cannot_be_loaded_in_a_worker(bench):
    bench.file("import os\nassert os.environ.pop('HERE', '1') == '1'\ndef g(completion): return 1\n")
    panel = bench.panel({"g": bench.spec("g")})
    os.environ["HERE"] = "2"
    try:
        scores, _ = bench.grade({"g": None}, ["1"] * 3, panel=panel)
    finally:
        del os.environ["HERE"]
    reason = "the graders cannot be loaded in a worker process: graders.g.use: importing it failed: AssertionError"
    assert [score.status for score in scores["g"]] == [Status.GRADER_ERROR] * 3
    assert all(score.reason.startswith(reason) for score in scores["g"])


def test_a_grader_that_was_changed_meanwhile(bench):
    bench.file("def g(completion): return 1\n")
    panel = bench.panel({"g": bench.spec("g")})
    bench.file("def g(completion): return 2\n")
    scores, _ = bench.grade({"g": None}, ["1"], panel=panel)
    assert scores["g"][0].status is Status.GRADER_ERROR
    assert scores["g"][0].reason.endswith("mine.py of grader 'g' has changed since the run began")


def test_warm_up_runs_once_before_all_workers(bench):
    bench.file(
        "import os\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass G:\n"
        "    def warm_up(self): open('warm', 'a').write('x')\n"
        "    def grade(self, completion): return os.path.getsize('warm')\n"
    )
    scores, _ = bench.grade({"g": bench.spec("G")}, ["1"] * 20)
    assert [score.value for score in scores["g"]] == [1.0] * 20


@pytest.mark.e2e  # real limits: too slow for a unit test
def test_cancelling_the_panel_leaves_the_workers_usable(bench):
    bench.file(BAD)

    async def main():
        panel = bench.panel({"g": bench.spec("bad", timeout_s=1.0)}, num_workers=1)
        try:
            grading = asyncio.create_task(bench.graded(panel, make_task(), ["sleep"] + ["fine"] * 5))
            await asyncio.sleep(0.1)
            grading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await grading
            return (await bench.graded(panel, make_task("b"), ["fine"]))[0].rewards
        finally:
            panel.close()

    assert asyncio.run(main()) == [0.5]


def test_panels_with_the_same_graders_load_them_once_and_end_apart(bench):
    bench.file(BAD + "\nopen('loaded', 'a').write('x')\n")
    specs = {"g": bench.spec("bad", timeout_s=SAFETY_S)}

    async def main():
        with closing(ForkServers()) as servers:
            first, second = (bench.panel(specs, num_workers=1, fork_servers=servers) for _ in range(2))
            other = bench.panel({"g": bench.spec("right", timeout_s=SAFETY_S)}, num_workers=1, fork_servers=servers)
            of_first, of_second, of_other = (servers.of(one.graders, None) for one in (first, second, other))
            assert of_first is of_second is not of_other
            of_first.warm()
            before = Path("loaded").read_text()
            stuck = asyncio.create_task(bench.graded(first, make_task(), ["sleep"]))
            [group] = await bench.graded(second, make_task("b"), ["fine"])
            while len(forked()) < 2:
                await asyncio.sleep(0.01)
            assert Path("loaded").read_text() == before + "x"
            first.close()
            stuck.cancel()
            while len(forked()) > 1:  # that of the first is killed, though it does not listen
                await asyncio.sleep(0.01)
            [again] = await bench.graded(second, make_task("c"), ["fine"])
            second.close()
            return [one.grades[0].scores["g"].value for one in (group, again)], second

    def forked():
        [server] = psutil.Process().children()
        return server.children()

    values, second = asyncio.run(asyncio.wait_for(main(), 3 * SAFETY_S))
    assert values == [0.5, 0.5]
    assert second.workers_replaced == 0
    assert psutil.Process().children(recursive=True) == []
