"""Optuna's study behind the words of rft: which settings to try next, and which trial to end early.

The study lives in `study.db` (SQLite) in the sweep's folder, so that a sweep which was killed can go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy import URL

from rft.config.schema import SearchConfig
from rft.config.search import Between, Range, text_of
from rft.metrics.intervals import Estimate
from rft.sweep.outcome import Outcome

STUDY = "study.db"


class Asked:
    """One trial, as the study wants it.

    Args:
        trial: Optuna's.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.number = int(trial.number)
        """Number of the trial, from 0, those before a resume included."""
        self.settings = _settings(trial)
        """What to set the searched keys to, as on the command line."""

    def go_on(self, step: int, estimate: Estimate) -> bool:
        """Tell a measurement of the validation tasks, and ask whether the trial is worth going on with."""
        self._trial.report(estimate.mean, step)
        return not self._trial.should_prune()


class Study:
    """The trials so far, and what follows from them.

    Args:
        folder: The sweep.
        search: How to search.
        space: Where to search.
    """

    def __init__(self, folder: Path, search: SearchConfig, space: Mapping[str, Range]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = {key: _distribution(range) for key, range in space.items()}
        median = optuna.pruners.MedianPruner(n_startup_trials=search.startup_trials)
        self._study = optuna.create_study(
            storage=database(folder),
            study_name="rft",
            load_if_exists=True,
            direction=search.direction,
            pruner=median if search.prune else optuna.pruners.NopPruner(),
        )
        self._study.sampler = optuna.samplers.TPESampler(
            # After a resume other numbers are drawn than before.
            seed=search.seed + len(self._study.get_trials(deepcopy=False)),
            n_startup_trials=search.startup_trials,
            # Trials that are still running count as bad ones, so that not all try the same.
            constant_liar=True,
        )

    def running(self) -> dict[int, dict[str, str]]:
        """Settings, by number, of the trials that were asked for and of whose end nothing was told."""
        states = (TrialState.RUNNING,)
        running = self._study.get_trials(deepcopy=False, states=states)
        return {int(trial.number): _settings(trial) for trial in running}

    def ask(self) -> Asked:
        """The next trial."""
        return Asked(self._study.ask(self._space))

    def tell(self, outcome: Outcome) -> None:
        """Take in how a trial ended."""
        number = outcome.number
        if outcome.status == "finished" and outcome.score is not None:
            self._study.tell(number, outcome.score.mean)
            return
        self._study.tell(number, state=TrialState.PRUNED if outcome.status == "pruned" else TrialState.FAIL)
        if outcome.status == "interrupted":  # a resume begins with the same settings
            self._study.enqueue_trial(self._study.get_trials(deepcopy=False)[number].params)


def database(folder: Path) -> str:
    """The URL of a sweep's study. SQLAlchemy escapes what has a meaning in a URL, as ? and % have."""
    return URL.create("sqlite", database=str((folder / STUDY).absolute())).render_as_string(hide_password=False)


def _settings(trial: optuna.Trial | optuna.trial.FrozenTrial) -> dict[str, str]:
    return {key: text_of(value) for key, value in trial.params.items()}


def _distribution(range: Range) -> BaseDistribution:
    if not isinstance(range, Between):
        return CategoricalDistribution(range.values)
    if range.step is None:
        return FloatDistribution(range.low, range.high, log=range.is_logarithmic)
    return IntDistribution(int(range.low), int(range.high), log=range.is_logarithmic, step=range.step)
