"""`rft grade`: completions that were recorded, graded; from the words of the command line to the files."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.commands.grade import run_grading
from rft.config.commands import load_grading
from rft.errors import ConfigError, DataError, GradeError, OutputError
from rft.grading.report import distribution, percentiles
from rft.run_folder.recorder import Recorder
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, StopReason, Task

GRADERS = """
from rft.grading import per_group

def correct(completion, task):
    return completion == task.item["answer"]

def chars(completion):
    return len(completion)

def picky(completion):
    if completion == "slow":
        return None
    if not completion.isdigit():
        raise ValueError(f"{completion!r} is no number")
    return int(completion) / 10

@per_group
def size(completions):
    return [len(completions)] * len(completions)

def tokens(rollout):
    return len(rollout.completion_ids) + (rollout.stop == "length") / 2

def stable(completion):
    return 1

stable.deterministic = True

def keyed(completion, api_key):
    if completion == "2":
        return 1
    raise ValueError(f"{api_key} is not known here")
"""
LINES = [
    {"prompt": "1 + 1 =", "answer": "2", "completion": "2"},
    {"prompt": "1 + 1 =", "answer": "2", "completion": "3"},
    {"prompt": "2 + 2 =", "answer": "4", "completion": "4"},
    {"messages": [{"role": "user", "content": "3 + 3 ="}], "answer": "6", "output": "six"},
    {"prompt": "4 + 4 =", "answer": "8", "response": "8"},
]

GradeFile = Callable[..., tuple[int, str]]


@pytest.fixture
def grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GradeFile:
    """Grade completions.jsonl of an empty folder into `out`; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(GRADERS)
    write(tmp_path / "completions.jsonl", LINES)

    def call(*words: str, data: str = "completions.jsonl", out: str = "out") -> tuple[int, str]:
        config = load_grading([f"data={data}", f"output_dir={out}", *words])
        console = Console(file=io.StringIO(), width=200)
        code = run_grading(config, console=console)
        assert isinstance(console.file, io.StringIO)
        return code, console.file.getvalue()

    return call


def write(file: Path, lines: list[Any]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def summary(folder: str = "out") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return content


def scores(folder: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]


def test_rewards_and_their_distribution(grade: GradeFile) -> None:
    code, out = grade(
        "graders.correct.use=mine.py:correct", "graders.chars.use=mine.py:chars", "graders.chars.weight=0.5"
    )
    assert code == 0
    assert [line["where"] for line in scores()] == [f"completions.jsonl:{number}" for number in range(1, 6)]
    assert [line["reward"] for line in scores()] == [1.5, 0.5, 1.5, 1.5, 1.5]  # "six" is wrong, but has 3 characters
    told = summary()
    assert (told["status"], told["num_completions"]) == ("finished", 5)
    assert told["reward"] == {
        "n": 5,
        "mean": pytest.approx(1.3),
        "sd": pytest.approx(0.4),  # squares: 4 x 0.04 + 0.64 = 0.8, a fifth of it is 0.16
        "min": 0.5,
        "median": 1.5,
        "max": 1.5,
        "histogram": [{"from": 0.5, "to": 0.5, "count": 1}, {"from": 1.5, "to": 1.5, "count": 4}],
    }
    assert told["graders"]["correct"]["scores"]["mean"] == pytest.approx(0.6)
    assert told["graders"]["correct"]["statuses"] == {"ok": 5}
    assert told["graders"]["correct"]["calls"] == 5
    latency = told["graders"]["correct"]["latency_s"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert "mean 1.3  sd 0.4  min 0.5  median 1.5  max 1.5  (n 5)" in out
    assert f"  0.5 |{'#' * 10}{' ' * 30}| 1\n  1.5 |{'#' * 40}| 4\n" in out


def test_failures_are_counted_by_cause_and_are_no_zeros(grade: GradeFile, tmp_path: Path) -> None:
    texts = ["1", "2", "ab", "cd", "slow"]
    write(tmp_path / "completions.jsonl", [{"prompt": "?", "completion": text} for text in texts])
    code, out = grade("graders.picky.use=mine.py:picky")
    assert code == 0
    assert [line["reward"] for line in scores()] == [0.1, 0.2, None, None, None]
    told = summary()["graders"]["picky"]
    assert told["statuses"] == {"ok": 2, "grader error": 2, "skipped": 1}
    assert told["scores"]["mean"] == pytest.approx(0.15)
    error, skipped = told["causes"]
    assert (error["status"], error["count"], error["completion"]) == ("grader error", 2, "ab")
    assert error["where"] == "completions.jsonl:3"
    assert error["reason"].startswith("ValueError: 'ab' is no number (mine.py:")
    assert (skipped["status"], skipped["count"]) == ("skipped", 1)
    assert "    2 x grader error: ValueError: 'ab' is no number" in out
    assert "      completions.jsonl:3: 'ab'\n" in out


def test_too_many_failures_end_it_and_what_was_graded_is_kept(grade: GradeFile, tmp_path: Path) -> None:
    write(tmp_path / "completions.jsonl", [{"prompt": "?", "completion": text} for text in ["1", "ab"]])
    with pytest.raises(GradeError, match="grader 'picky' failed on 1 of the last"):
        grade("graders.picky.use=mine.py:picky", "grading.max_fault_share=0")
    assert "completions.jsonl:2" not in [line["where"] for line in scores()]
    assert not Path("out", "summary.json").exists()


def test_not_one_reward_is_a_failure(grade: GradeFile, tmp_path: Path) -> None:
    write(tmp_path / "completions.jsonl", [{"prompt": "?", "completion": "ab"}])
    code, out = grade("graders.picky.use=mine.py:picky")
    assert code == 1
    assert summary()["reward"] == {"n": 0}
    assert "\nreward\n  none\n" in out


def test_lines_that_differ_in_the_completion_only_are_a_group(grade: GradeFile) -> None:
    grade("graders.size.use=mine.py:size")
    assert [line["reward"] for line in scores()] == [2, 2, 1, 1, 1]


def test_terminal_codes_are_not_printed(grade: GradeFile, tmp_path: Path) -> None:
    write(tmp_path / "completions.jsonl", [{"prompt": "?", "completion": "\x1b[2J\ud800"}])
    _, out = grade("graders.picky.use=mine.py:picky")
    assert "\x1b" not in out
    assert "completions.jsonl:1: '\\x1b[2J\\ud800'" in out


def test_a_cache_saves_the_second_time(grade: GradeFile) -> None:
    words = ("graders.stable.use=mine.py:stable", "grading.cache_folder=kept")
    grade(*words)
    grade(*words, out="again")
    first, second = (summary(folder)["graders"]["stable"] for folder in ("out", "again"))
    # The two answers to 1 + 1 differ, the 8 occurs once: five inputs.
    assert (first["calls"], first["cache_hits"]) == (5, 0)
    assert (second["calls"], second["cache_hits"]) == (0, 5)


def test_a_warning_where_lengths_are_unknown(grade: GradeFile) -> None:
    _, out = grade("graders.tokens.use=mine.py:tokens")
    assert "warning: completions.jsonl:1 and others have no num_completion_tokens; to tokens, " in out


def test_columns_of_other_names(grade: GradeFile, tmp_path: Path) -> None:
    write(tmp_path / "other.jsonl", [{"question": "1 + 1 =", "answer": "2", "text": "2"}])
    words = ("graders.correct.use=mine.py:correct", "data.columns={prompt: question, completion: text}")
    grade(*words, data="other.jsonl")
    assert [line["reward"] for line in scores()] == [1]


# A run's folder.


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that sampled two completions in training, of 3 tokens each, and one afterwards."""
    folder = tmp_path / "run"
    folder.mkdir()

    def group(*texts: str) -> GradedGroup:
        task = Task(id="t", messages=({"role": "user", "content": "1 + 1 ="},), item={"answer": "2"}, split=Split.TRAIN)
        rollouts = tuple(
            Rollout(
                task_id="t",
                index=index,
                prompt_ids=(1,),
                completion_ids=(5, 6, 7),
                logprobs=(-1.0, -1.0, -1.0),
                text=text,
                stop=StopReason.LENGTH,
                policy=Policy(version=1, fingerprint="f"),
            )
            for index, text in enumerate(texts)
        )
        grades = tuple(Grade(scores={"old": Score(value=0.0)}, reward=0.0) for _ in texts)
        return GradedGroup(task=task, rollouts=rollouts, grades=grades)

    recorder = Recorder(folder)
    recorder.rollouts([group("2", "3")], step=1, phase="train")
    recorder.rollouts([group("2")], step=2, phase="train")
    recorder.rollouts([group("5")], step=2, phase="after")
    return folder


def test_a_run_is_graded_again(grade: GradeFile, run: Path) -> None:
    _, out = grade(
        "graders.correct.use=mine.py:correct", "graders.tokens.use=mine.py:tokens", "graders.size.use=mine.py:size",
        data=str(run),
    )  # fmt: skip
    assert [[score["value"] for score in line["scores"].values()] for line in scores()] == [
        [1, 3.5, 2],
        [0, 3.5, 2],
        [1, 3.5, 1],  # the same task in another step is another group
        [0, 3.5, 1],
    ]
    assert "warning" not in out


def test_one_phase_of_a_run(grade: GradeFile, run: Path) -> None:
    grade("graders.correct.use=mine.py:correct", "data.phase=after", data=str(run))
    assert [line["reward"] for line in scores()] == [0]
    with pytest.raises(DataError, match="it contains no completion of the phase test"):
        grade("graders.correct.use=mine.py:correct", "data.phase=test", data=str(run), out="other")


def test_a_line_that_a_run_did_not_finish_is_left_out(grade: GradeFile, run: Path) -> None:
    with (run / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 3, "phase": "tr')
    grade("graders.correct.use=mine.py:correct", data=str(run))
    assert len(scores()) == 4
    with (run / "rollouts.jsonl").open("a") as file:
        file.write("\n")  # finished, so it is wrong
    with pytest.raises(DataError, match=r"rollouts\.jsonl:5: invalid JSON"):
        grade("graders.correct.use=mine.py:correct", data=str(run), out="other")


# What is given can be wrong.


def test_all_bad_lines_are_named(grade: GradeFile, tmp_path: Path) -> None:
    lines = [
        LINES[0],
        {"prompt": "?", "text": "2"},
        {"prompt": "?", "completion": 2},
        {"completion": "2"},
        [1],
        {"prompt": "?", "output": "1", "response": "2"},
        {"prompt": "?", "completion": "1", "num_completion_tokens": -1},
        {"prompt": "?", "completion": "1", "num_completion_tokens": 2**70},
    ]
    write(tmp_path / "bad.jsonl", lines)
    with pytest.raises(DataError) as caught:
        grade("graders.correct.use=mine.py:correct", data="bad.jsonl")
    assert caught.value.exit_code == 2
    found = caught.value.problems
    assert [problem.split(": ")[0] for problem in found] == [f"bad.jsonl:{number}" for number in range(2, 9)]
    starts = [
        'no "completion"; it has: prompt, text (map one with data.columns.completion=',
        '"completion" must be a string, not a number',
        'neither "messages" nor "prompt"',
        "not a JSON object but a list",
        'both "output" and "response"; select one with data.columns.completion=',
        '"num_completion_tokens" must be an integer, not -1',
        '"num_completion_tokens" is 1,180,591,620,717,411,303,424; at most 1,000,000 are allowed',
    ]
    for problem, start in zip(found, starts, strict=True):
        assert problem.split(": ", 1)[1].startswith(start)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(grade: GradeFile) -> None:
    grade("graders.correct.use=mine.py:correct")
    with pytest.raises(OutputError, match="already holds a run"):
        grade("graders.correct.use=mine.py:correct")


def test_what_is_missing_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_grading([])
    assert [problem.split()[0] for problem in caught.value.problems] == ["graders", "data"]


def test_a_key_is_nowhere(grade: GradeFile, tmp_path: Path) -> None:
    secret = "sk-planted-0123456789"
    words = ["graders.g.use=mine.py:keyed", f"graders.g.api_key={secret}", "graders.g.cache=true"]
    code, shown = grade(*words, "grading.cache_folder=out/cache")
    assert (code, summary()["reward"]["n"]) == (0, 1)
    assert "ValueError: <redacted> is not known here" in shown
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"config.yaml", "scores.jsonl", "summary.json", "scores.sqlite"} <= {path.name for path in files}
    for text in [shown.encode(), *(path.read_bytes() for path in files)]:
        assert secret.encode() not in text


# The numbers of the report.


def test_percentiles_are_the_nearest_rank() -> None:
    assert percentiles([float(number) for number in range(200, 0, -1)]) == {"p50": 100, "p95": 190, "p99": 198}
    assert percentiles([3.0]) == {"p50": 3, "p95": 3, "p99": 3}
    assert percentiles([]) == {}


def test_many_values_go_into_bins_of_equal_width() -> None:
    told = distribution([float(number) for number in range(21)])  # 0 to 20: bins of 2, the last has 18, 19 and 20
    assert [one["count"] for one in told["histogram"]] == [2, 2, 2, 2, 2, 2, 2, 2, 2, 3]
    assert (told["histogram"][3]["from"], told["histogram"][3]["to"]) == (6, 8)
    assert (told["mean"], told["median"]) == (10, 10)
    assert told["sd"] == pytest.approx(math.sqrt((21**2 - 1) / 12))  # of whole numbers in a row


def test_values_near_the_largest_float_do_not_overflow() -> None:
    told = distribution([1e308, -1e308, 1e308, -1e308])
    assert (told["mean"], told["sd"], told["min"], told["max"]) == (0.0, 1e308, -1e308, 1e308)
    assert [one["count"] for one in told["histogram"]] == [2, 2]
