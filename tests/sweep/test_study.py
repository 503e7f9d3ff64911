"""The study: what it asks for, what it prunes, and that it goes on after a kill."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from rft.config.schema import SearchConfig
from rft.config.search import Between, OneOf
from rft.metrics.intervals import Estimate
from rft.sweep.outcome import Outcome
from rft.sweep.study import STUDY, Study, database

SPACE = {
    "learner.learning_rate": Between(low=1e-5, high=1e-2, is_logarithmic=True),
    "loop.steps": Between(low=1, high=9, step=4),
    "sampler": OneOf(values=("vllm", "fake")),
}


def study(folder: Path, **search: object) -> Study:
    return Study(folder, SearchConfig(**{"startup_trials": 2, **search}), SPACE)  # type: ignore[arg-type]


def ended(number: int, mean: float | None, status: str = "finished") -> Outcome:
    score = None if mean is None else estimate(mean)
    return Outcome(number=number, folder=Path("x"), status=status, score=score)  # type: ignore[arg-type]


def estimate(mean: float) -> Estimate:
    return Estimate(mean=mean, ci95=None, n=1)


def states(folder: Path) -> list[str]:
    found = optuna.load_study(study_name="rft", storage=database(folder))
    return [trial.state.name for trial in found.trials]


def test_settings_are_words_within_the_space(tmp_path: Path) -> None:
    searching = study(tmp_path)
    for number in range(6):
        asked = searching.ask()
        assert asked.number == number
        assert 1e-5 <= float(asked.settings["learner.learning_rate"]) <= 1e-2
        assert asked.settings["loop.steps"] in ("1", "5", "9")
        assert asked.settings["sampler"] in ("vllm", "fake")
        searching.tell(ended(number, 0.5))


def test_the_same_seed_asks_for_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert study(tmp_path / "a").ask().settings == study(tmp_path / "b").ask().settings


def test_how_trials_end(tmp_path: Path) -> None:
    searching = study(tmp_path)
    outcomes = [ended(0, 0.5), ended(1, None, "pruned"), ended(2, None, "failed"), ended(3, None)]
    for outcome in outcomes:
        searching.ask()
        searching.tell(outcome)
    assert states(tmp_path) == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]


@pytest.mark.parametrize(("direction", "hopeless"), [("maximize", 0.1), ("minimize", 0.9)])
def test_a_trial_behind_the_median_is_pruned(tmp_path: Path, direction: str, hopeless: float) -> None:
    searching = study(tmp_path, direction=direction)
    for number, mean in enumerate((0.4, 0.5)):
        asked = searching.ask()
        assert asked.go_on(10, estimate(mean)), "there are too few to compare with"
        searching.tell(ended(number, mean))
    assert searching.ask().go_on(10, estimate(0.45)), "the median is no reason"
    assert not searching.ask().go_on(10, estimate(hopeless))


def test_without_pruning_none_is(tmp_path: Path) -> None:
    searching = study(tmp_path, prune=False)
    for number in range(4):
        assert searching.ask().go_on(10, estimate(1.0 - 0.3 * number))
        searching.tell(ended(number, 0.5))


def test_a_killed_study_continues_the_trials_that_were_running(tmp_path: Path) -> None:
    searching = study(tmp_path)
    searching.ask()
    searching.tell(ended(0, 0.5))
    lost = searching.ask()
    assert lost.go_on(1, estimate(0.25))
    again = study(tmp_path)
    [running] = again.running()
    assert (running.number, running.settings) == (1, lost.settings)
    assert running.go_on(2, estimate(0.5))
    again.tell(ended(1, 0.75))
    assert again.running() == []
    assert again.ask().number == 2
    assert states(tmp_path) == ["COMPLETE", "COMPLETE", "RUNNING"]


@pytest.mark.parametrize("name", ["lr?1#a b=ü,c", "x%20y%2Fz"])
def test_a_folder_of_any_name_holds_its_own_study(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert study(folder).ask().number == 0
    assert (folder / STUDY).is_file()
    assert list(tmp_path.iterdir()) == [folder]
    assert study(folder).ask().number == 1
