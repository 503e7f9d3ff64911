"""Faults and output of graders are kept in the run folder, within bounds, and without secrets."""

import asyncio
import json
import os

import pytest

from rft.grading import grader_log
from rft.grading.grader_log import FAULTS, OUTPUT, GraderLog
from rft.grading.processes import worker
from rft.types import Score, Status

from .conftest import make_rollouts

GRADERS = r"""
import os, sys, time

def helper(completion):
    return 1 / int(completion)

def graded(completion):
    print("looking at", completion)
    return helper(completion)

async def waiting(completion):
    return helper(completion)

def keyed(completion, api_key=""):
    print("the key is", api_key)
    raise ValueError("no service for " + api_key)

def slow(completion):
    time.sleep(1000)

def loud(completion):
    sys.stdout.write("y" * 300_000 + "\n")
    sys.stderr.write("z" * 300_000 + "\n")
    os.write(1, b"at the end")
    return 1.0
"""


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    return run


def faults_in(folder):
    return [json.loads(line) for line in (folder / FAULTS).read_text().splitlines()]


@pytest.mark.parametrize("name", ["graded", "waiting"])
def test_a_fault_is_kept_with_its_traceback_and_its_completion(bench, folder, name):
    bench.file(GRADERS)
    bench.grade({"g": bench.spec(name)}, ["4", "0", "x"], log_folder=folder)
    zero, text = sorted(faults_in(folder), key=lambda one: one["index"])
    assert (zero["grader"], zero["task_id"], zero["index"], zero["completion"]) == ("g", "a", 1, "0")
    assert zero["reason"] == "ZeroDivisionError: division by zero (mine.py:5)"
    assert "return 1 / int(completion)" in zero["traceback"] and "ZeroDivisionError" in zero["traceback"]
    assert (zero["policy_version"], zero["status"], zero["completion_chars"]) == (3, "grader error", 1)
    assert text["traceback"].endswith("ValueError: invalid literal for int() with base 10: 'x'\n")


def test_a_timeout_is_kept_as_well(bench, folder):
    bench.file(GRADERS)
    bench.grade({"g": bench.spec("slow", timeout_s=0.2)}, ["4"], log_folder=folder)
    [fault] = faults_in(folder)
    assert (fault["status"], fault["reason"], fault["traceback"]) == ("timeout", "no result within 0.2 s", "")


def test_secrets_are_hidden(bench, folder, caplog):
    bench.file(GRADERS)
    bench.grade({"g": bench.spec("keyed", api_key="sk-0123456789")}, ["say sk-0123456789"], log_folder=folder)
    written = (folder / FAULTS).read_text() + (folder / OUTPUT).read_text()
    assert "sk-0123456789" not in written and written.count("<redacted>") >= 4
    assert "faults of graders, with tracebacks: 1 in" in caplog.text and "graders printed" in caplog.text


def test_what_graders_print_is_kept_and_bounded(bench, folder, capfd, caplog, monkeypatch):
    bench.file(GRADERS)
    bench.grade({"g": bench.spec("loud")}, ["1"], log_folder=folder)
    assert (folder / OUTPUT).stat().st_size == 2 * 300_001 + len("at the end\n")
    (folder / OUTPUT).unlink()
    monkeypatch.setattr(grader_log, "MAX_OUTPUT_BYTES", 1000)
    scores, _ = bench.grade({"g": bench.spec("loud")}, ["1", "2", "3"], log_folder=folder)
    assert [score.value for score in scores["g"]] == [1.0] * 3
    assert (folder / OUTPUT).stat().st_size == 1000
    assert "more bytes did not fit" in caplog.text
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("is_read_to_its_end", [True, False])
def test_the_last_output_of_a_worker_is_kept_whenever_it_is_closed(is_read_to_its_end):
    printed = []

    async def close():
        read, write = os.pipe()
        output, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: worker.Output(printed.append),
            open(read, "rb", 0),  # noqa: SIM115
        )
        os.write(write, b"half a line")
        os.close(write)
        while is_read_to_its_end and output.get_protocol() is not None:
            await asyncio.sleep(0)
        worker.drain(output)

    asyncio.run(close())
    assert printed == [b"half a line\n"]


def test_without_a_folder_output_goes_to_stderr_up_to_a_size(capsys, caplog, monkeypatch):
    monkeypatch.setattr(grader_log, "MAX_SHOWN_BYTES", 8)
    log = GraderLog(None)
    for _ in range(3):
        log.printed(b"abcd\n")
    log.fault("g", make_rollouts(["x"])[0], Score(value=None, status=Status.GRADER_ERROR), "")
    log.close()
    assert capsys.readouterr().err == "abcd\nabc"
    assert "graders printed 7 more bytes than shown" in caplog.text


def test_faults_are_bounded_and_those_left_out_counted(folder, caplog, monkeypatch):
    monkeypatch.setattr(grader_log, "MAX_FAULTS_BYTES", 1000)
    score, rollouts = Score(value=None, status=Status.GRADER_ERROR, reason="no"), make_rollouts(["x" * 50] * 9)
    for _ in range(2):  # a resumed run goes on where the file is
        log = GraderLog(folder)
        for rollout in rollouts:
            log.fault("g", rollout, score, "")
        log.close()
    assert f"faults of graders, with tracebacks: 0 in {folder / FAULTS}; 9 more did not fit" in caplog.text
    kept = len(faults_in(folder))
    assert 2 <= kept <= 4 and (folder / FAULTS).stat().st_size <= 1000
    assert [fault["index"] for fault in faults_in(folder)] == list(range(kept))


def test_long_completions_are_cut(folder, monkeypatch):
    monkeypatch.setattr(grader_log, "MAX_COMPLETION_CHARS", 5)
    score = Score(value=None, status=Status.TIMEOUT, reason="late")
    GraderLog(folder).fault("g", make_rollouts(["abcdefgh"])[0], score, "")
    [fault] = faults_in(folder)
    assert (fault["completion"], fault["completion_chars"]) == ("abcde", 8)


def test_a_run_without_faults_or_output_leaves_no_files(bench, folder, caplog):
    bench.file("def fine(completion): return 1.0")
    bench.grade({"g": bench.spec("fine")}, ["1"], log_folder=folder)
    assert list(folder.iterdir()) == [] and caplog.text == ""
