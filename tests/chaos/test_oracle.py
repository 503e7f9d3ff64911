"""The oracle finds what differs, and a verdict says what a cell did otherwise than demanded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.chaos.cells import Cell
from tests.chaos.harness import Attempt, Outcome
from tests.chaos.oracle import MAX_GAP, differences, judge
from tests.chaos.table import TITLE, Verdict, replace_section, table

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run("name", lines={(step, index): reward}, weight=0.5)`: a run of two steps and one task."""

    def make(name: str, *, rewards: dict[tuple[int, int], float], weight: float = 0.5, restarts: int = 0) -> Path:
        run = tmp_path / name
        (run / "adapter").mkdir(parents=True)
        weights = {"w": np.array([weight, 0.0], dtype=np.float32)}
        (run / "adapter" / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(weights))
        metrics: list[dict[str, Any]] = [
            {
                "step": step,
                "policy": {"version": step, "fingerprint": f"f{step}"},
                "metrics": {"recovery/sampler_restarts": float(restarts)},
            }
            for step in (0, 1, 2)
        ]
        rollouts = [
            {"phase": "train", "step": step, "task_id": "t", "index": index, "completion": "1", "reward": reward}
            for (step, index), reward in rewards.items()
        ]
        for file, lines in (("metrics.jsonl", metrics), ("rollouts.jsonl", rollouts)):
            (run / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


REWARDS = {(1, 0): 1.0, (1, 1): 0.0, (2, 0): 1.0, (2, 1): 0.5}


def test_equal_runs(make_run: MakeRun) -> None:
    assert differences(make_run("a", rewards=REWARDS), make_run("b", rewards=REWARDS)) == []


def test_another_reward_and_other_weights(make_run: MakeRun) -> None:
    expected = make_run("b", rewards=REWARDS)
    found = make_run("a", rewards=REWARDS | {(2, 1): 0.25}, weight=0.5001)
    assert differences(found, expected) == [
        "1 rewards differ, such as ('train', 2, 't', 1): 0.25, not 0.5",
        "the adapter's bytes differ",
    ]
    assert differences(found, expected, "tasks") == []


def test_weights_up_to_rounding(make_run: MakeRun) -> None:
    expected = make_run("b", rewards=REWARDS)
    assert differences(make_run("near", rewards=REWARDS, weight=0.5 + MAX_GAP / 2), expected, "rewards") == []
    [problem] = differences(make_run("far", rewards=REWARDS, weight=0.5 + 2 * MAX_GAP), expected, "rewards")
    assert "differs by 0.028" in problem


def test_lost_and_doubled_completions(make_run: MakeRun) -> None:
    expected = make_run("b", rewards=REWARDS)
    lost = make_run("a", rewards={place: reward for place, reward in REWARDS.items() if place != (1, 0)})
    assert differences(lost, expected, "tasks") == ["1 completions are lost, such as ('train', 1, 't', 0)"]
    with (lost / "rollouts.jsonl").open("a") as file:
        for _ in range(2):
            line = {"phase": "train", "step": 1, "task_id": "t", "index": 0, "completion": "1", "reward": 1.0}
            file.write(json.dumps(line) + "\n")
    assert differences(lost, expected, "tasks") == [
        "1 completions are doubled or foreign, such as ('train', 1, 't', 0)"
    ]


def attempt(code: int, output: str = "", leftovers: tuple[str, ...] = ()) -> Attempt:
    return Attempt(code, output, 1.0, leftovers)


def test_what_a_cell_demands(make_run: MakeRun) -> None:
    expected = make_run("b", rewards=REWARDS)
    found = make_run("a", rewards=REWARDS, restarts=1)
    cell = Cell("kill", "sampler", "sampling")
    assert judge(cell, Outcome(found, (attempt(0),), ("one",)), expected) == []
    assert judge(cell, Outcome(found, (attempt(0),), ()), expected) == [
        "the fault did not strike; the command ended with exit code 0"
    ]
    ended = Outcome(found, (attempt(1, "gone", ("process x",)), attempt(0)), ("one",))
    assert judge(cell, ended, expected) == [
        "exit code 1, not 0: gone",
        "left over after command 1: process x",
    ]
    head = Cell("kill", "head", "sampling")
    says_how = Outcome(found, (attempt(69, "rft: the head is gone; resume=run"), attempt(0)), ("one",))
    assert judge(head, says_how, expected) == []
    assert judge(head, Outcome(found, (attempt(1, "Traceback"),) * 2, ("one",)), expected) == [
        "exit code 1, not 69: Traceback",
        "the output does not say 'rft: .*resume': Traceback",
        "the run is not finished after 2 commands: Traceback",
    ]


def test_a_restart_must_be_counted(make_run: MakeRun) -> None:
    silent, expected = make_run("a", rewards=REWARDS), make_run("b", rewards=REWARDS)
    outcome = Outcome(silent, (attempt(0),), ("one",))
    assert judge(Cell("kill", "sampler", "sampling"), outcome, expected) == [
        "no metric counts the restart of the sampler"
    ]


def test_the_table(tmp_path: Path) -> None:
    passed, failed = Cell("kill", "learner", "learning"), Cell("freeze", "raylet", "learning")
    text = table({passed: Verdict((), 41.2, (0,)), failed: Verdict(("it hung",), 300.0, (-9,))}, num_cells=150)
    assert "1 of 150 cells passed, 1 failed, 148 were not run" in text
    [row] = [line for line in text.splitlines() if line.startswith("| learner | learning |")]
    assert row.split(" | ")[2] == "41"
    assert "- freeze raylet, learning: it hung" in text
    file = tmp_path / "RESULTS.md"
    file.write_text(f"# Results\n\n{TITLE}\n\noutdated\n\n## Other\n\nstays\n")
    replace_section(file, text)
    assert "outdated" not in file.read_text()
    assert file.read_text().endswith("## Other\n\nstays\n")
    assert file.read_text().count(TITLE) == 1
