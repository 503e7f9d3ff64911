"""A grid and a search of fake trials in this process: what a failure leaves sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from rft.errors import OutputError
from rft.run_folder.recorder import read_rollouts

METRIC = ("graders.same.use=grader.py:one", "graders.same.weight=0", "evaluation.metric=same")
"""What the trials are compared by, while they differ in another grader."""

Command = Callable[..., tuple[int, dict[str, Any], str]]


def completions(run: Path) -> list[tuple[Any, ...]]:
    lines = read_rollouts(run)
    return sorted((line["phase"], line["task_id"], line["index"], line["completion"]) for line in lines)


@pytest.mark.usefixtures("any_ray")
def test_trials_share_their_engines_and_a_failure_is_its_own(folder: Path, grid: Command, engines: list[Any]) -> None:
    code, sweep, printed = grid(
        *METRIC, "graders.one.fails=false,true", "seed=0,1", "hydra.launcher.max_parallel_trials=3"
    )
    assert code == 1
    assert len(engines) == 1
    assert [trial["status"] for trial in sweep["trials"]] == ["finished", "finished", "failed", "failed"]
    assert sweep["counts"] == {"finished": 2, "failed": 2}
    assert all("grader 'one' failed" in trial["error"] for trial in sweep["trials"][2:])
    assert all(0 <= trial["ci95"][0] <= trial["score"] <= trial["ci95"][1] for trial in sweep["trials"][:2])
    assert sweep["winner"]["number"] in (0, 1)
    assert "4 trials, 3 at a time" in printed
    # What each was given and did is what it would have been given alone.
    assert completions(folder / "sweep" / "0") != completions(folder / "sweep" / "1")
    with pytest.raises(OutputError, match="already holds a sweep; set another"):
        grid("seed=0,1")


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("no_ray")
def test_failed_trials_of_a_search_are_counted_and_shown(search: Command, fake: tuple[str, ...]) -> None:
    words = ("graders.one.fails=choice(true,false)", "output_dir=found", "sweep.trials=6", "sweep.startup_trials=6")
    code, sweep, printed = search(*fake, *METRIC, *words)
    assert not ray.is_initialized()
    assert code == 0
    assert sweep["counts"].keys() == {"finished", "failed"} and sum(sweep["counts"].values()) == 6
    failed = [trial for trial in sweep["trials"] if trial["status"] == "failed"]
    assert all(trial["score"] is None and "grader 'one' failed" in trial["error"] for trial in failed)
    assert f"{len(failed)} failed" in printed
    assert all(f"trial {trial['number']} failed: " in printed for trial in failed)


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("no_ray")
def test_one_after_the_other_each_trial_has_a_ray_of_its_own(grid: Command, engines: list[Any]) -> None:
    code, sweep, _ = grid(*METRIC, "graders.one.fails=true,false", "hydra/launcher=basic")
    assert not ray.is_initialized()
    assert (code, len(engines)) == (1, 2)
    assert [trial["status"] for trial in sweep["trials"]] == ["failed", "finished"]
    assert "grader 'one' failed" in sweep["trials"][0]["error"]
    assert sweep["winner"]["number"] == 1
