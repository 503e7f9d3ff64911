"""Grids and searches of fake trials on a real Ray, in this process: what is shared, what a failure leaves sound."""

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
from rft.errors import OutputError, UsageError
from rft.recorder import read_rollouts
from rft.sweep.grid import run_grid
from rft.sweep.search import run_search

pytestmark = pytest.mark.e2e

SPACE = ("seed=range(0,50)", "learner.learning_rate=tag(log, interval(1e-5, 1e-2))")
Command = Callable[..., tuple[int, dict[str, Any], str]]


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


@pytest.fixture
def grid(folder: Path, fake: tuple[str, ...]) -> Command:
    """`grid("seed=0,1")`: the exit code, sweep.json and what was printed."""

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        printed = io.StringIO()
        code = run_grid(["-m", *fake, *words, "hydra.sweep.dir=sweep"], console=Console(file=printed, width=160))
        return code, json.loads(Path("sweep/sweep.json").read_text()), printed.getvalue()

    return run


@pytest.fixture
def search(folder: Path) -> Command:
    """`search("seed=range(0,9)", "output_dir=found")`: the exit code, sweep.json and what was printed."""

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        printed = io.StringIO()
        code = run_search(words, console=Console(file=printed, width=160))
        assert not ray.is_initialized()
        return code, json.loads(Path("found/sweep.json").read_text()), printed.getvalue()

    return run


def completions(run: Path) -> list[tuple[Any, ...]]:
    lines = read_rollouts(run)
    return sorted((line["phase"], line["task_id"], line["index"], line["completion"]) for line in lines)


def test_trials_share_one_fleet_and_a_failure_is_its_own(folder: Path, grid: Command, fleets: list[Any]) -> None:
    code, sweep, printed = grid("graders.one.fails=false,true", "seed=0,1", "hydra.launcher.max_parallel_trials=3")
    assert not ray.is_initialized()
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
    with pytest.raises(OutputError, match="holds a sweep already; give another one"):
        grid("seed=0,1")


@pytest.mark.parametrize(("launcher", "expected"), [("ray", 2), ("basic", 2)])
def test_the_same_results_whoever_shares(
    folder: Path, grid: Command, fleets: list[Any], launcher: str, expected: int
) -> None:
    _, shared, _ = grid("seed=0,1")
    assert len(fleets) == 1
    (folder / "sweep").rename(folder / "shared")
    _, other, _ = grid("seed=0,1", f"hydra/launcher={launcher}")
    assert len(fleets) == 1 + expected
    assert [trial["score"] for trial in other["trials"]] == [trial["score"] for trial in shared["trials"]]
    for number in ("0", "1"):
        assert completions(folder / "sweep" / number) == completions(folder / "shared" / number)


def test_other_samplers_come_one_after_the_other(grid: Command, fleets: list[Any]) -> None:
    code, sweep, printed = grid("model.max_context_tokens=100,110", "seed=0,1")
    assert (code, len(fleets)) == (0, 2)
    assert "sets of them, one after the other: 2" in printed
    assert sweep["counts"] == {"finished": 4}


def test_a_cluster_of_three_cpus_takes_two_learners_beside_the_samplers(grid: Command, fleets: list[Any]) -> None:
    ray.init(address="local", num_cpus=3, num_gpus=0, include_dashboard=False, log_to_driver=False)
    try:
        code, sweep, printed = grid("seed=0,1,2", "hydra.launcher.max_parallel_trials=3")
    finally:
        ray.shutdown()
    assert (code, len(fleets), sweep["counts"]) == (0, 1, {"finished": 3})
    assert "3 trials, 2 at a time" in printed
    assert "the cluster has room for 2 trial(s) at a time, not for 3" in printed


def test_an_unknown_key_is_refused_before_the_first_trial(folder: Path, grid: Command, search: Command) -> None:
    with pytest.raises(UsageError, match="learning_rte"):
        grid("learner.learning_rte=1e-3,1e-4")
    with pytest.raises(UsageError, match="learning_rte"):
        search("experiment=quickstart", "learner.learning_rte=interval(1e-5, 1e-3)", "output_dir=found")
    assert not (folder / "sweep").exists() and not (folder / "found").exists()


def test_failed_trials_of_a_search_are_counted_and_shown(search: Command, fake: tuple[str, ...]) -> None:
    words = ("graders.one.fails=choice(true,false)", "output_dir=found", "sweep.trials=6", "sweep.startup_trials=6")
    code, sweep, printed = search(*fake, *words)
    assert code == 0
    assert sweep["counts"].keys() == {"finished", "failed"} and sum(sweep["counts"].values()) == 6
    failed = [trial for trial in sweep["trials"] if trial["status"] == "failed"]
    assert all(trial["score"] is None and "grader 'one' failed" in trial["error"] for trial in failed)
    assert f"{len(failed)} failed" in printed
    assert all(f"trial {trial['number']} failed: " in printed for trial in failed)


def test_a_search_with_pruning_asks_for_more_trials_on_resume(search: Command, fake: tuple[str, ...]) -> None:
    words = (*fake, *SPACE, "output_dir=found", "sweep.parallel=2")
    code, sweep, _ = search(*words, "sweep.trials=4")
    assert (code, len(sweep["trials"])) == (0, 4)
    assert sweep["searched"] == ["seed", "learner.learning_rate"]
    code, sweep, _ = search("resume=found", "sweep.trials=5")
    assert (code, [trial["number"] for trial in sweep["trials"]]) == (0, [0, 1, 2, 3, 4])
    # The same command goes on as well; another one is refused.
    code, sweep, printed = search(*words, "sweep.trials=6")
    assert (code, [trial["number"] for trial in sweep["trials"]]) == (0, [0, 1, 2, 3, 4, 5])
    assert "5 of them have ended before and are not run again" in printed
    assert len({tuple(trial["overrides"]) for trial in sweep["trials"]}) == 6
    with pytest.raises(OutputError, match="holds another sweep"):
        search(*words, "loop.steps=1")
