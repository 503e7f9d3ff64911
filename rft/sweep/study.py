"""Wraps Optuna's study, which selects settings and prunes trials.

`study.db` (SQLite) in the sweep folder stores the study, so that a killed sweep can continue.
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
    """A trial that the study has selected.

    Args:
        trial: Optuna's trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.number = int(trial.number)
        """Number of the trial, from 0, including trials before a resume."""
        self.settings = _settings(trial)
        """Values of the searched keys, in the notation of the command line."""

    def go_on(self, step: int, estimate: Estimate) -> bool:
        """Report a validation measurement; return whether to continue the trial."""
        self._trial.report(estimate.mean, step)
        return not self._trial.should_prune()


class Study:
    """The trials so far, and the next settings to try.

    Args:
        folder: The sweep folder.
        search: Options of the search.
        space: The search space.
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
            # A resumed search draws new numbers.
            seed=search.seed + len(self._study.get_trials(deepcopy=False)),
            n_startup_trials=search.startup_trials,
            # Running trials count as bad ones, so that parallel trials differ.
            constant_liar=True,
        )

    def running(self) -> list[Asked]:
        """Return the trials that have started, and whose end was not reported, by number."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        # Optuna has no public way to a running trial of an earlier process.
        return [Asked(optuna.Trial(self._study, trial._trial_id)) for trial in running]

    def ask(self) -> Asked:
        """Return the next trial."""
        return Asked(self._study.ask(self._space))

    def tell(self, outcome: Outcome) -> None:
        """Record the end of a trial. An interrupted trial has not ended: it continues when the sweep does."""
        number = outcome.number
        if outcome.status == "finished" and outcome.score is not None:
            self._study.tell(number, outcome.score.mean)
            return
        self._study.tell(number, state=TrialState.PRUNED if outcome.status == "pruned" else TrialState.FAIL)


def database(folder: Path) -> str:
    """Return the URL of a sweep's study. SQLAlchemy escapes special characters such as ? and %."""
    return URL.create("sqlite", database=str((folder / STUDY).absolute())).render_as_string(hide_password=False)


def _settings(trial: optuna.Trial) -> dict[str, str]:
    return {key: text_of(value) for key, value in trial.params.items()}


def _distribution(range: Range) -> BaseDistribution:
    if not isinstance(range, Between):
        return CategoricalDistribution(range.values)
    if range.step is None:
        return FloatDistribution(range.low, range.high, log=range.is_logarithmic)
    return IntDistribution(int(range.low), int(range.high), log=range.is_logarithmic, step=range.step)
