"""Grids of fake trials on a real Ray, in this process: what is shared, and what a failure leaves sound."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from rft import build
from rft.recorder import read_rollouts
from rft.sweep.grid import run_grid
from rft.sweep.search import run_search

pytestmark = pytest.mark.e2e

GRADER = """
def one(completion, task, fails=False):
    if fails:
        raise ValueError("as the trial wants it")
    return float(completion == "1")
"""
FAKE = (
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "loop.steps=2",
    "data.test=null",
    "data.train=tasks.jsonl",
    "data.validation=held_out.jsonl",
    "~graders.correct",
    "graders.one.use=grader.py:one",
    "logging=none",
    "evaluation.every_steps=1",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grader.py").write_text(GRADER)
    for name, start, number in (("tasks", 0, 16), ("held_out", 100, 8)):
        lines = [json.dumps({"prompt": f"{start + index} + 1 ="}) + "\n" for index in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def fleets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The fleets that are started."""
    started: list[Any] = []
    real: Callable[..., Any] = build.fleet

    def counted(*inputs: Any, **how: Any) -> Any:
        started.append(real(*inputs, **how))
        return started[-1]

    monkeypatch.setattr(build, "fleet", counted)
    return started


def grid(*words: str) -> tuple[int, dict[str, Any], str]:
    printed = io.StringIO()
    code = run_grid(["-m", *FAKE, *words, "hydra.sweep.dir=sweep"], console=Console(file=printed, width=160))
    assert not ray.is_initialized()
    return code, json.loads(Path("sweep/sweep.json").read_text()), printed.getvalue()


def completions(run: Path) -> list[tuple[Any, ...]]:
    lines = read_rollouts(run)
    return sorted((line["phase"], line["task_id"], line["index"], line["completion"]) for line in lines)


def test_trials_share_one_fleet_and_a_failure_is_its_own(folder: Path, fleets: list[Any]) -> None:
    code, sweep, printed = grid("graders.one.fails=false,true", "seed=0,1", "hydra.launcher.max_parallel_trials=3")
    assert code == 1
    assert len(fleets) == 1
    assert [trial["status"] for trial in sweep["trials"]] == ["finished", "finished", "failed", "failed"]
    assert sweep["counts"] == {"finished": 2, "failed": 2}
    assert all("grader 'one' failed" in trial["error"] for trial in sweep["trials"][2:])
    assert all(0 <= trial["ci95"][0] <= trial["score"] <= trial["ci95"][1] for trial in sweep["trials"][:2])
    assert sweep["winner"]["number"] in (0, 1)
    assert "4 trials, 3 at a time" in printed
    # What each was given and did is what it would have been given alone.
    assert completions(folder / "sweep" / "0") != completions(folder / "sweep" / "1")


@pytest.mark.parametrize(("launcher", "expected"), [("separate", 2), ("basic", 2)])
def test_the_same_results_whoever_shares(folder: Path, fleets: list[Any], launcher: str, expected: int) -> None:
    _, shared, _ = grid("seed=0,1")
    assert len(fleets) == 1
    (folder / "sweep").rename(folder / "shared")
    _, other, _ = grid("seed=0,1", f"hydra/launcher={launcher}")
    assert len(fleets) == 1 + expected
    assert [trial["score"] for trial in other["trials"]] == [trial["score"] for trial in shared["trials"]]
    for number in ("0", "1"):
        assert completions(folder / "sweep" / number) == completions(folder / "shared" / number)


def test_other_samplers_come_one_after_the_other(folder: Path, fleets: list[Any]) -> None:
    code, sweep, printed = grid("model.max_context_tokens=100,110", "seed=0,1")
    assert (code, len(fleets)) == (0, 2)
    assert "sets of them, one after the other: 2" in printed
    assert sweep["counts"] == {"finished": 4}


def test_a_search_with_pruning_goes_on_after_a_kill(folder: Path) -> None:
    def search(*words: str) -> tuple[int, dict[str, Any]]:
        code = run_search(words, console=Console(file=io.StringIO()))
        return code, json.loads((folder / "found" / "sweep.json").read_text())

    space = ("seed=range(0,50)", "learner.learning_rate=tag(log, interval(1e-5, 1e-2))")
    code, sweep = search(*FAKE, *space, "output_dir=found", "sweep.trials=4", "sweep.parallel=2")
    assert (code, len(sweep["trials"])) == (0, 4)
    assert sweep["searched"] == ["seed", "learner.learning_rate"]
    code, sweep = search("resume=found", "sweep.trials=6")
    assert (code, [trial["number"] for trial in sweep["trials"]]) == (0, [0, 1, 2, 3, 4, 5])
    assert len({tuple(trial["overrides"]) for trial in sweep["trials"]}) == 6
