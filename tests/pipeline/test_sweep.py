"""`rft sweep` over the last stage of a pipeline, with fake stages and trials in this process."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.config import RunConfig
from rft.config.staged_search import read_sweep
from rft.errors import ConfigError, LearnError
from rft.events import Emit
from rft.run.inputs.prepare import Prepared
from rft.run_folder.recorder import read_manifest, read_metrics
from rft.sweep.search import run_search
from rft.sweep.stages import StagesBefore

from .conftest import SHARED, Trainer

SWEEP = (
    *SHARED,
    "stages.one.loop.steps=2",
    "stages.two.loop.steps=3",
    "stages.two.seed=range(0,9)",
    "sweep.trials=2",
    "sweep.parallel=1",
)


class FakeHost:
    """Opens the parts of trials in this process."""

    trainer: Trainer

    def __init__(self, inputs: Sequence[Any], *, parallel: int, at_most: int, are_all: bool) -> None:
        self._parallel = parallel

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        yield self._parallel

    def open_parts(
        self, run: RunConfig, prepared: Prepared, emit: Emit, *, checkpoint: Path | None
    ) -> AbstractAsyncContextManager[Any]:
        return self.trainer.parts(run, prepared, checkpoint).open(emit)


@pytest.fixture
def sweep(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`sweep("output_dir=...")`: the exit code, and what is printed."""
    monkeypatch.setattr(FakeHost, "trainer", trainer, raising=False)
    monkeypatch.setattr("rft.sweep.search.Host", FakeHost)
    monkeypatch.setattr("rft.sweep.stages.plan_training", lambda run, console: f"plan of {run.loop.steps} steps")
    monkeypatch.setattr("rft.sweep.stages.require_packages_here", lambda run: None)
    monkeypatch.setattr("rft.sweep.plots.plot_sweep", lambda *_: [])
    for module in ("stages", "search"):
        monkeypatch.setattr(f"rft.sweep.{module}.prepare", lambda run, **_: trainer.prepared(run))
    monkeypatch.setattr("rft.sweep.search.prepare_all", lambda runs, reuse: [trainer.prepared(run) for run in runs])

    def run(*words: str) -> tuple[int, str]:
        printed = io.StringIO()
        code = run_search(words, console=Console(file=printed, width=200), train=trainer)
        return code, printed.getvalue()

    return run


def test_every_trial_starts_from_the_stage_before(trainer: Trainer, sweep: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    code, printed = sweep(*SWEEP, f"output_dir={folder}")
    assert (code, trainer.begun) == (0, ["01-one from 0"])
    end = read_metrics(folder / "01-one")[-1]["policy"]
    for number in ("0", "1"):
        start = read_manifest(folder / number)["start"]
        assert (start["path"], start["fingerprint"], start["step"]) == (str(folder / "01-one"), end["fingerprint"], 2)
        assert [line["step"] for line in read_metrics(folder / number)] == [0, 1, 2, 3]
    content = json.loads((folder / "sweep.json").read_text())
    assert [(stage["name"], stage["status"], stage["steps"]) for stage in content["stages"]] == [("one", "finished", 2)]
    assert (content["searched"], content["counts"]) == (["seed"], {"finished": 2})
    assert f"start='{folder / '01-one'}'" in content["winner"]["command"].replace("'\"'\"'", "'")
    assert "stage 1 of 2, one: " in printed and "2 trials over seed, in " in printed
    trainer.begun = []
    code, printed = sweep(f"resume={folder}", "sweep.trials=3")
    assert (code, trainer.begun) == (0, [])
    assert "2 of them have ended before and are not run again" in printed


@pytest.mark.parametrize("place", ["01-one", "1"])
def test_a_sweep_that_fails_or_is_stopped_continues(trainer: Trainer, sweep: Any, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "sweep"
    words = (*SWEEP, f"output_dir={folder}", "or_resume=true")

    def stop(stage: str, step: int) -> None:
        if (stage, step) == (place, 2):
            raise KeyboardInterrupt if place == "1" else LearnError("no more")

    trainer.learning = stop
    with pytest.raises((KeyboardInterrupt, LearnError)) as caught:
        sweep(*words)
    if place == "01-one":
        assert caught.value.__notes__[-1] == f"to continue the sweep: rft sweep resume={folder}"
        assert not (folder / "sweep.json").exists()
    trainer.learning, trainer.begun = lambda stage, step: None, []
    code, _ = sweep(*words) if place == "1" else sweep(f"resume={folder}")
    assert (code, trainer.begun) == (0, [] if place == "1" else ["01-one from 1"])
    assert json.loads((folder / "sweep.json").read_text())["counts"] == {"finished": 2}
    assert all([line["step"] for line in read_metrics(folder / number)] == [0, 1, 2, 3] for number in ("0", "1"))


def test_an_interrupted_stage_ends_the_sweep(trainer: Trainer, sweep: Any, tmp_path: Path) -> None:
    words = (*SWEEP, f"output_dir={tmp_path}", "or_resume=true")
    printed = io.StringIO()
    assert run_search(words, console=Console(file=printed, width=200), train=lambda run, command: 130) == 130
    assert f"to continue: rft sweep resume={tmp_path}" in printed.getvalue()
    assert sweep(*words)[0] == 0


def test_problems_of_stages_and_trials_are_reported_before_the_first_stage(
    trainer: Trainer, sweep: Any, tmp_path: Path
) -> None:
    words = [*SWEEP, "stages.one.learner.adapter.rank=8", "stages.two.learner.adapter.rank=4,8"]
    with pytest.raises(ConfigError) as caught:
        sweep(*words, "stages.one.loop.stepz=1", f"output_dir={tmp_path / 'sweep'}")
    (problem,) = caught.value.problems
    assert problem.startswith("stage one: loop.stepz is unknown")
    with pytest.raises(ConfigError) as caught:
        sweep(*words, f"output_dir={tmp_path / 'sweep'}")
    assert caught.value.problems == (
        "stage two: learner.adapter.rank=4: the stage before trains an adapter with 8; leave it out",
    )
    with pytest.raises(ConfigError, match=r"graders\.correct\.weight: differs between trials"):
        sweep(*SWEEP, "stages.two.graders.correct.weight=1,2", f"output_dir={tmp_path / 'sweep'}")
    with pytest.raises(ConfigError, match="a search needs held-out tasks"):
        sweep(*SWEEP, "data.test=null", "data.validation=null", f"output_dir={tmp_path / 'sweep'}")
    assert (trainer.begun, (tmp_path / "sweep").exists()) == ([], False)


def test_a_dry_run_plans_stages_and_search(sweep: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    code, printed = sweep(*SWEEP, f"output_dir={folder}", "dry_run=true")
    plan = f"no problems; the search would be: 2 trials over seed, in {folder}\n"
    assert (code, printed) == (0, f"stage 1, one:\nplan of 2 steps\n\n{plan}")
    assert not folder.exists()


def test_after_a_stage_that_trained_all_weights_trials_use_its_model(sweep: Any, tmp_path: Path) -> None:
    sweep(*SWEEP, f"output_dir={tmp_path}")
    (tmp_path / "01-one" / "adapter").rename(tmp_path / "01-one" / "model")
    (tmp_path / "01-one" / "model" / "config.json").write_text("{}")
    started = StagesBefore(read_sweep(SWEEP), tmp_path, Console(quiet=True)).started()
    assert started.words[-1] == f"model.path='{tmp_path / '01-one' / 'model'}'"
    assert not any(word.startswith("start") for word in started.words)
