"""`rft compare`: what it reads from run folders, what it computes, and what it refuses."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.metrics.intervals import estimate, paired_difference
from rft.metrics.significance import mcnemar

Rft = Callable[..., tuple[int, str, str]]


def write_run(
    folder: Path,
    scores: Mapping[str, Sequence[float | None]],
    *,
    phase: str = "after",
    sha256: str = "a",
    item: Mapping[str, Any] | None = None,
    said: str = "A question",
    **config: Any,
) -> Path:
    """Write a run folder with the scores of each task's samples by the grader `correct`."""
    folder.mkdir(parents=True)
    lines = [
        {
            "phase": phase,
            "task_id": task,
            "index": index,
            "messages": [{"role": "user", "content": said}],
            "item": dict(item or {"answer": task}),
            "reward": value,
            "scores": {"correct": {"value": value}},
        }
        for task, values in scores.items()
        for index, value in enumerate(values)
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "graders": {"correct": {"use": "exact"}}} | config))
    (folder / "manifest.json").write_text(json.dumps({"graders": {"correct": {"sha256": sha256}}}))
    return folder


ONE = {"a": [0.0], "b": [0.0], "c": [1.0], "d": [0.0]}
OTHER = {"a": [1.0], "b": [1.0], "c": [1.0], "d": [None]}


def test_two_runs(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", ONE)
    write_run(tmp_path / "other", OTHER)
    code, out, _ = rft(
        "compare", f"{tmp_path}/one", f"new={tmp_path}/other", "--json", "found.json", "--html", "p.html"
    )
    assert code == 0
    result = json.loads((tmp_path / "found.json").read_text())
    assert [each["metric"] for each in result["compared"]] == ["reward"]  # correct is the same
    first = result["compared"][0]
    assert first["means"]["one"] == estimate([0.0, 0.0, 1.0]).to_json()
    before, after = {"a": 0.0, "b": 0.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}
    assert first["differences"] == [{"before": "one", "after": "new", **paired_difference(before, after).to_json()}]
    assert first["tests"][0] | {"verdict": ""} == {
        "before": "one",
        "after": "new",
        "test": "McNemar",
        "p": mcnemar(before, after),
        "p_adjusted": mcnemar(before, after),
        "verdict": "",
    }
    assert "reward: 1 task left out, for which some run has no value" in out
    assert "no difference is shown" in out
    page = (tmp_path / "p.html").read_text()
    assert "<script" not in page and "http" not in page and page.count("<svg") == 3


def test_several_samples_of_a_task_count_as_one(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", {"a": [0.0, 0.0, 1.0, 0.0], "b": [0.0] * 4})
    write_run(tmp_path / "other", {"a": [1.0, 1.0, 0.0, 1.0], "b": [1.0, 0.0, 0.0, 0.0]})
    words = ["--metric", "correct", "--pass-at", "2", "--json", "found.json"]
    assert rft("compare", f"{tmp_path}/one", f"{tmp_path}/other", *words)[0] == 0
    [found] = json.loads((tmp_path / "found.json").read_text())["compared"]
    assert found["means"]["one"]["mean"] == 0.125 and found["means"]["one"]["n"] == 2
    assert found["tests"][0]["test"] == "sign flips"
    # Of six pairs of samples: none of b's is right, three of a's contain the right one, and so on.
    assert found["pass_at"]["2"]["one"]["mean"] == pytest.approx((3 / 6 + 0) / 2)
    assert found["pass_at"]["2"]["other"]["mean"] == pytest.approx((6 / 6 + 3 / 6) / 2)


def test_seeds_of_a_setting_are_the_unit(rft: Rft, tmp_path: Path) -> None:
    for seed, (low, high) in enumerate([(0.2, 0.7), (0.3, 0.8), (0.4, 0.6)]):
        write_run(tmp_path / "low" / str(seed), {"a": [low], "b": [low]}, seed=seed)
        write_run(tmp_path / "high" / str(seed), {"a": [high], "b": [high]}, seed=seed, learner={"kind": "grpo"})
    words = ["--metric", "reward", "--json", "found.json"]
    assert rft("compare", f"{tmp_path}/low", f"{tmp_path}/high", *words)[0] == 0
    [found] = json.loads((tmp_path / "found.json").read_text())["compared"]
    assert found["unit"] == "seed"
    assert found["means"]["low"]["mean"] == pytest.approx(0.3)
    # Student's t with 2 degrees of freedom (4.3027) times 0.1 / sqrt(3); Welch with 4 (2.7764) times sqrt(0.02 / 3).
    assert found["means"]["low"]["ci95"] == pytest.approx([0.3 - 0.24841, 0.3 + 0.24841], abs=1e-4)
    assert found["differences"][0]["ci95"] == pytest.approx([0.4 - 0.22669, 0.4 + 0.22669], abs=1e-4)
    assert found["tests"][0]["verdict"] == "high is better than low"


def test_three_runs_are_corrected_and_a_chosen_checkpoint_is_named(rft: Rft, tmp_path: Path) -> None:
    scores = {str(task): [0.0] for task in range(8)}
    write_run(tmp_path / "one", scores)
    write_run(tmp_path / "two", {task: [1.0] for task in scores})
    chosen: dict[str, Any] = {"data": {"validation": "v.jsonl", "test": None}, "evaluation": {"patience": 2}}
    write_run(tmp_path / "three", {task: [1.0] for task in scores}, **chosen)
    places = [str(tmp_path / name) for name in ("one", "two", "three")]
    _, out, _ = rft("compare", *places, "--metric", "reward", "--json", "found.json")
    tests = json.loads((tmp_path / "found.json").read_text())["compared"][0]["tests"]
    assert [test["p"] for test in tests] == [2 / 2**8, 2 / 2**8, 1.0]  # all eight tasks, of a fair coin
    assert [test["p_adjusted"] for test in tests] == [6 / 2**8, 6 / 2**8, 1.0]
    assert "three: its checkpoint was chosen on v.jsonl" in out and "3 comparisons at once" in out


@pytest.mark.parametrize(
    ("other", "options", "words", "message"),
    [
        ({"x": [1.0]}, {}, [], "measured no common task"),
        (ONE, {"item": {"answer": "other"}}, [], "4 tasks of .* have the same id but other contents: a, b, c"),
        (ONE, {"sha256": "b"}, ["--metric", "correct"], "correct is not compared: its grader has other code"),
        (ONE, {"sha256": "b"}, [], "no metric can be compared"),
        (ONE, {}, ["--metric", "style"], "metric style: not every run has it; all have reward and correct"),
        (ONE, {"phase": "train"}, [], "has no measurement after training; it has none"),
        (ONE, {}, ["--phase", "before"], "has no measurement before; it has after"),
        (ONE, {"phase": "before"}, [], "it has not ended, and was measured only before training"),
        (ONE, {}, ["--pass-at", "-1"], "pass@-1: the number of attempts must be at least 1"),
        (ONE, {}, ["--json", "nodir/x.json"], "the folder .*nodir does not exist"),
        (ONE, {"said": "Another question"}, [], "4 tasks of .* have the same id but other contents"),
        (ONE, {}, ["missing"], "missing: no such file or folder"),
    ],
)
def test_what_cannot_be_compared(
    rft: Rft, tmp_path: Path, other: Any, options: dict[str, Any], words: list[str], message: str
) -> None:
    write_run(tmp_path / "one", ONE)
    write_run(tmp_path / "other", other, **options)
    code, _, error = rft("compare", f"{tmp_path}/one", f"{tmp_path}/other", *words)
    assert code == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


def test_passages_change_the_prompt_of_a_task_but_not_the_task(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", ONE)
    found = {"answer": "other", "passages": [{"id": "p1"}], "passages_left_out": True}
    write_run(tmp_path / "other", ONE, said="[p1] ... A question", item=found)
    assert rft("compare", f"{tmp_path}/one", f"{tmp_path}/other")[0] == 0


def test_equal_seeds_of_a_setting_are_refused(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", ONE)
    write_run(tmp_path / "twice" / "0", ONE)
    write_run(tmp_path / "twice" / "1", ONE)
    code, _, error = rft("compare", f"{tmp_path}/one", f"{tmp_path}/twice")
    assert code == 2 and "several of its runs have the seed 0" in error


def test_equal_runs_show_no_spread(rft: Rft, tmp_path: Path) -> None:
    for name, value in (("low", 0.5), ("high", 0.6)):
        for seed in range(2):
            write_run(tmp_path / name / str(seed), {"a": [value]}, seed=seed, learner={"kind": name})
    assert rft("compare", f"{tmp_path}/low", f"{tmp_path}/high", "--json", "found.json")[0] == 0
    found = json.loads((tmp_path / "found.json").read_text())["compared"][0]
    assert found["differences"][0]["ci95"] is None and found["tests"][0]["verdict"] == "no difference is shown"


def test_a_name_may_hold_an_equals_sign_and_a_place_is_named_once(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", ONE)
    write_run(tmp_path / "lr=1e-5", ONE)
    assert rft("compare", "one", "lr=1e-5")[0] == 0
    code, _, error = rft("compare", "one", "one")
    assert code == 2 and "one is named twice" in error


def test_runs_of_a_folder_that_differ_in_more_than_the_seed(rft: Rft, tmp_path: Path) -> None:
    write_run(tmp_path / "one", ONE)
    write_run(tmp_path / "sweep" / "0", ONE)
    write_run(tmp_path / "sweep" / "1", ONE, learner={"kind": "ppo"}, seed=1)
    code, _, error = rft("compare", f"{tmp_path}/one", f"{tmp_path}/sweep")
    assert code == 2 and "its runs differ in learner, not in the seed alone" in error
