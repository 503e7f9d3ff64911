"""Loads the configuration of each command from its arguments."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rft.config.adapter_settings import given_keys, with_settings_of_run
from rft.config.catalog import command_of
from rft.config.command_line import read_line
from rft.config.compose import load, register, usable_overrides
from rft.config.epochs import both_lengths
from rft.config.feasibility_problems import measured_problems
from rft.config.pairs import PairsConfig, pairs_problems
from rft.config.presets import COMPOSING, conf_dir, explained
from rft.config.problems import (
    audit_config_problems,
    evaluate_problems,
    grade_problems,
    merge_problems,
    play_problems,
    serve_problems,
)
from rft.config.resume import load_resumed, with_place
from rft.config.schema import AuditConfig, EvaluateConfig, GradeConfig, MergeConfig, RunConfig, ServeConfig
from rft.config.start_or_resume import resumed_if_begun
from rft.config.start_settings import problems_with_start, with_start
from rft.errors import ConfigError, RftError
from rft.redaction import hide_in_words

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable: with 1, Hydra raises errors instead of printing tracebacks and exiting."""


def load_training(overrides: Sequence[str], output_dir: str | None = None) -> RunConfig:
    """Load the configuration of a training run. `resume=<run folder or copy>` loads that run's configuration.

    With `or_resume=true`, the configuration has `resume` if the run has begun.

    Args:
        overrides: As on the command line.
        output_dir: The run folder, if it does not come from the configuration.

    Raises:
        ConfigError: Contains all problems.
        OutputError: `resume` names no run.
        StorageError: The copy that `resume` names cannot be read.
    """
    resumed = [word.lstrip("+").removeprefix("resume=") for word in overrides if word.lstrip("+").startswith("resume=")]
    if resumed and resumed[-1] not in ("", "null"):
        others = [word for word in overrides if not word.lstrip("+").startswith("resume=")]
        return load_resumed(resumed[-1].strip("'\""), others)
    words = [*overrides, *([f"output_dir={output_dir}"] if output_dir else [])]
    given = given_keys(words)
    run = load(RunConfig, "train", words, lambda run: [*both_lengths(run, given), *problems_with_start(run)])
    run = with_start(run)
    run = with_place(run, num_names=2 if output_dir else 1)
    if not run.or_resume:
        return run
    return resumed_if_begun(run, has_own_folder="output_dir" in given)


def load_evaluation(overrides: Sequence[str], output_dir: str | None = None) -> EvaluateConfig:
    """Load the configuration of an evaluation. For an adapter, it includes the settings of the adapter's run.

    Raises:
        ConfigError: Contains all problems.
        UsageError: The run's configuration cannot be read.
    """
    words = [*overrides, *([f"output_dir={output_dir}"] if output_dir else [])]
    config = load(EvaluateConfig, "evaluate", words, evaluate_problems)
    return with_settings_of_run(config, given_keys(words))


def load_play(overrides: Sequence[str], output_dir: str | None = None) -> EvaluateConfig:
    """Load the configuration of `rft play`. `experiment=` gives it the environment, model and tasks of an experiment.

    Without test tasks, the validation tasks or else the training tasks take their place.

    Raises:
        ConfigError: Contains all problems.
        UsageError: The run's configuration cannot be read.
    """
    words = [*overrides, *([f"output_dir={output_dir}"] if output_dir else [])]
    config = load(EvaluateConfig, "play", words, lambda config: play_problems(_with_test_tasks(config)))
    return with_settings_of_run(_with_test_tasks(config), given_keys(words))


def _with_test_tasks(config: EvaluateConfig) -> EvaluateConfig:
    data = config.data
    if data.test or data.mixture:
        return config
    return config.model_copy(update={"data": data.model_copy(update={"test": data.validation or data.train})})


def load_grading(overrides: Sequence[str], output_dir: str | None = None) -> GradeConfig:
    """Load the configuration of `rft grade`.

    Raises:
        ConfigError: Contains all problems.
    """
    words = [*written_out(overrides), *([f"output_dir={output_dir}"] if output_dir else [])]
    return load(GradeConfig, "grade", words, grade_problems)


def load_merge(overrides: Sequence[str]) -> MergeConfig:
    """Load the configuration of `rft merge`.

    Raises:
        ConfigError: Contains all problems.
    """
    return load(MergeConfig, "merge", overrides, merge_problems)


def load_pairs(overrides: Sequence[str]) -> PairsConfig:
    """Load the configuration of `rft pairs`.

    Raises:
        ConfigError: Contains all problems.
    """
    return load(PairsConfig, "pairs", overrides, pairs_problems)


def load_audit(overrides: Sequence[str], output_dir: str | None = None) -> AuditConfig:
    """Load the configuration of `rft audit`.

    Raises:
        ConfigError: Contains all problems.
    """
    words = [*written_out(overrides, "tasks"), *([f"output_dir={output_dir}"] if output_dir else [])]
    return load(AuditConfig, "audit", words, audit_config_problems)


def written_out(words: Sequence[str], key: str = "completions") -> list[str]:
    """Expand the short form `data=` of `rft grade` and `rft audit`, which Hydra would take for a preset.

    `rft audit` also accepts the key of `rft play` for its tasks, `data.test`.
    """
    words = [re.sub("^(\\+*)data\\.test=", r"\1data.tasks=", word) for word in words] if key == "tasks" else words
    return [re.sub("^(\\+*)data=", rf"\1data.{key}=", word) for word in words]


def load_feasibility(overrides: Sequence[str], output_dir: str | None = None) -> RunConfig:
    """Load the configuration of `rft feasibility`: that of the run in question, with `out=` for its result.

    Raises:
        ConfigError: Contains all problems.
    """
    words = [re.sub(r"^(\+*)out=", r"\1feasibility.out=", word) for word in overrides]
    words += [f"output_dir={output_dir}"] if output_dir else []

    def problems(run: RunConfig) -> list[str]:
        resumed = {"resume": run.resume, "or_resume": run.or_resume or None}
        wrong = [f"{key}: rft feasibility looks at a run that starts" for key, value in resumed.items() if value]
        own = [] if run.feasibility.mode != "off" else measured_problems(run, "rft feasibility")
        return [*wrong, *own, *both_lengths(run, given_keys(words)), *problems_with_start(run)]

    return with_start(load(RunConfig, "feasibility", words, problems))


def load_service(overrides: Sequence[str]) -> ServeConfig:
    """Load the configuration of `rft serve-grader`.

    Raises:
        ConfigError: Contains all problems.
    """
    return load(ServeConfig, "serve_grader", overrides, serve_problems)


def with_hydra(
    config_name: str, words: Sequence[str], job: Callable[[list[str], str | None], int], many: RunMany | None = None
) -> int:
    """Let Hydra handle its own options: `--cfg job`, `--multirun`, ...

    Args:
        config_name: The primary file in `conf/`, without `.yaml`.
        words: The command line after the command.
        job: Runs one configuration, given as overrides, in the folder that Hydra chooses in a multirun.
        many: Runs all jobs of a multirun side by side, with a launcher of rft.

    Returns:
        The exit code; in a multirun the highest of all jobs.

    Raises:
        ConfigError: Hydra cannot compose the configuration.
    """
    line = read_line(words, command_of(config_name))
    usable, problems = usable_overrides(line.words, config_name, allow_sweeps=line.is_multirun)
    if problems:
        raise ConfigError("configuration", problems)
    jobs = Jobs(job, many, line.searched)
    register()
    sys.argv = [f"rft {config_name}", *line.options, *usable]
    try:
        with _errors_raised():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(jobs)()
    except SystemExit:
        if jobs.refusal is not None:
            raise jobs.refusal from None
        raise
    except COMPOSING as error:
        if jobs.have_begun:  # the error does not come from the composition
            raise
        raise ConfigError("configuration", hide_in_words([explained(error)], {})) from error
    return max(jobs.codes)


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Make Hydra raise errors instead of printing a traceback and exiting."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a multirun.

    Example:
        Job(number=3, overrides=["experiment=quickstart", "seed=3"], folder="/home/me/runs/sweep_1/3")
    """

    number: int
    """From 0."""
    overrides: list[str]
    """As on the command line."""
    folder: str
    """The run folder that Hydra chose."""


RunMany = Callable[[Sequence[Job], Mapping[str, Any]], list[int]]
"""Runs the jobs, given the launcher's options (`hydra.launcher.*`), and returns their exit codes."""


class Jobs:
    """The callable that Hydra runs. Hydra's launchers call it for each job; rft's launchers pass all jobs at once.

    Args:
        job: Runs one job.
        many: Runs all jobs; None if jobs can only run one after another.
        searched: Overrides that come from command-line options.
    """

    def __init__(
        self, job: Callable[[list[str], str | None], int], many: RunMany | None, searched: Sequence[str]
    ) -> None:
        self._job = job
        self._many = many
        self._searched = searched
        self.have_begun = False
        """Whether Hydra has composed the first job."""
        self.codes = [0]
        """0, followed by the exit codes of finished jobs."""
        self.refusal: RftError | None = None
        """The error that refused the jobs; Hydra would replace its message."""

    def __call__(self, composed: DictConfig) -> None:
        """Run the job that Hydra has just configured."""
        self.have_begun = True
        in_multirun = HydraConfig.get().mode is RunMode.MULTIRUN
        folder = str(HydraConfig.get().runtime.output_dir) if in_multirun else None
        if in_multirun:
            _hide_in_sweep(Path(HydraConfig.get().sweep.dir) / "multirun.yaml", composed)
        self.codes.append(self._job(self._words(HydraConfig.get().overrides.task), folder))

    def launch(
        self, jobs: Sequence[tuple[int, Sequence[str], str]], composed: DictConfig, options: Mapping[str, Any]
    ) -> list[int]:
        """Run jobs (number, overrides, folder) side by side; `composed` is their common configuration."""
        self.have_begun = True
        try:
            _hide_in_sweep(Path(str(composed.hydra.sweep.dir)) / "multirun.yaml", composed)
            if self._many is None:
                raise ConfigError("configuration", ["hydra/launcher: this command supports only hydra/launcher=basic"])
            all_jobs = [
                Job(number=number, overrides=self._words(overrides), folder=folder)
                for number, overrides, folder in jobs
            ]
            codes = self._many(all_jobs, options)
        except RftError as refusal:
            self.refusal = refusal
            sys.exit(refusal.exit_code)
        self.codes += codes
        return codes

    def _words(self, overrides: Iterable[str]) -> list[str]:
        plain = [word.lstrip("+") for word in overrides]
        return [*self._searched, *(word for word in plain if not word.startswith(("hydra.", "hydra/")))]


def _hide_in_sweep(file: Path, composed: DictConfig) -> None:
    """Remove secrets, including those of the command line, from Hydra's record of a multirun."""
    if file.is_file():
        lines = file.read_text(encoding="utf-8").splitlines()
        hidden = hide_in_words(lines, OmegaConf.to_container(composed))
        file.write_text("\n".join([*hidden, ""]), encoding="utf-8")
