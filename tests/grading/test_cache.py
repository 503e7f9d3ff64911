"""The cache: a score is computed once, for the same grader and the same inputs, and a failure never stays."""

import dataclasses
import pickle
import sqlite3

import pytest

from rft.errors import OutputError
from rft.grading import Status
from rft.grading.cache import FILE, ScoreCache

from .conftest import make_task

COUNTING = """
import os
from rft.grading import Score, Status, per_group

def calls():
    with open("calls", "a") as file:
        file.write("x")
    return os.path.getsize("calls")

def g(completion, task, bonus=0):
    calls()
    match completion:
        case "none": return None
        case "raise": raise ValueError
        case "empty": return Score(value=0.0, status=Status.NO_ANSWER, reason="why")
    return Score(value=len(completion) + bonus, answer=completion)
g.deterministic = True

def sampled(completion):
    return calls()

@per_group
def ranks(completions):
    calls()
    return [None if one == "none" else index for index, one in enumerate(completions)]
ranks.deterministic = True

async def judge(completion):
    calls()
    return 0.25
judge.deterministic = True
"""


@pytest.fixture
def calls(bench):
    """How often a grader of the file was called."""
    bench.file(COUNTING)
    bench.in_process = True  # where graders run changes nothing about the cache
    file = bench.folder / "calls"
    return lambda: file.stat().st_size if file.exists() else 0


def again(bench, spec, texts, **task):
    """Grade with a new panel on the same folder."""
    scores, panel = bench.grade({"n": spec}, texts, task=make_task(**task), cache_folder=bench.folder / "cache")
    return [dataclasses.replace(score, seconds=0.0) for score in scores["n"]], panel.counters["n"]


@pytest.mark.parametrize("use", ["g", "judge", "ranks"])
def test_the_same_input_is_graded_once(bench, calls, use):
    bench.in_process = False
    spec = bench.spec(use)
    first, counters = again(bench, spec, ["a", "bb"])
    made = calls()
    assert (counters.calls, counters.cache_hits, made) == ((1, 0, 1) if use == "ranks" else (2, 0, 2))
    second, counters = again(bench, spec | {"weight": 7, "timeout_s": 9.0, "retries": 1}, ["a", "bb"])
    assert second == first
    assert (counters.calls, counters.cache_hits, calls()) == (0, made, made)
    assert counters.statuses == {Status.OK: 2}


def test_what_makes_another_score(bench, calls):
    again(bench, bench.spec("g"), ["a"], answer="1")
    for number, (spec, texts, item) in enumerate(
        [
            (bench.spec("g"), ["b"], {"answer": "1"}),
            (bench.spec("g"), ["a"], {"answer": "2"}),
            (bench.spec("g", bonus=1), ["a"], {"answer": "1"}),
            (bench.spec("g", range=[0, 1]), ["a"], {"answer": "1"}),
        ],
        start=2,
    ):
        assert again(bench, spec, texts, **item)[1].cache_hits == 0
        assert calls() == number
    bench.file(COUNTING + "\n# another version\n")
    assert again(bench, bench.spec("g"), ["a"], answer="1")[1].cache_hits == 0


def test_only_scores_with_a_value_are_kept(bench, calls):
    texts = ["none", "raise", "empty"]
    first, _ = again(bench, bench.spec("g"), texts)
    second, counters = again(bench, bench.spec("g"), texts)
    assert [score.status for score in first] == [Status.SKIPPED, Status.GRADER_ERROR, Status.NO_ANSWER]
    assert second == first
    assert (counters.calls, counters.cache_hits, calls()) == (2, 1, 5)
    again(bench, bench.spec("ranks"), ["a", "none"])
    assert again(bench, bench.spec("ranks"), ["a", "none"])[1].cache_hits == 0


def test_a_score_out_of_range_is_not_kept(bench, calls):
    spec = bench.spec("g", range=[0, 1])
    assert again(bench, spec, ["aa"])[0][0].status is Status.GRADER_ERROR
    assert again(bench, spec, ["aa"])[1].cache_hits == 0
    clipped, _ = again(bench, spec | {"clip": True}, ["aa"])
    assert again(bench, spec | {"clip": True}, ["aa"])[0] == clipped
    assert (clipped[0].value, clipped[0].reason, calls()) == (1.0, "clipped from 2", 3)


@pytest.mark.parametrize(
    ("use", "others", "hits"), [("sampled", {}, 0), ("sampled", {"cache": True}, 1), ("g", {"cache": False}, 0)]
)
def test_the_grader_declares_and_the_configuration_decides(bench, calls, use, others, hits):
    again(bench, bench.spec(use, **others), ["a"])
    assert again(bench, bench.spec(use, **others), ["a"])[1].cache_hits == hits


def test_nothing_is_kept_without_a_folder(bench, calls):
    bench.grade({"n": bench.spec("g")}, ["a"])
    _, panel = bench.grade({"n": bench.spec("g")}, ["a"])
    assert (panel.counters["n"].cache_hits, calls()) == (0, 2)


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be used: .*; choose another folder, or delete the file"):
        ScoreCache(tmp_path / "file")
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(OutputError, match="file is not a database"):
        ScoreCache(tmp_path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("line", ["nonsense", '[[[2.0, "timeout", null, null]], 0]', pickle.dumps(Bomb())])
def test_what_cannot_be_read_is_computed(bench, calls, caplog, line):
    first, _ = again(bench, bench.spec("g"), ["a"])
    with sqlite3.connect(bench.folder / "cache" / FILE) as connection:
        connection.execute("UPDATE scores SET line = ?", [line])
    second, counters = again(bench, bench.spec("g"), ["a"])
    assert (second, counters.calls) == (first, 1)
    assert "cannot be read" in caplog.text
    assert again(bench, bench.spec("g"), ["a"])[1].cache_hits == 1
