"""A training run in Python: a view of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from rft.config.recorded_yaml import read_yaml
from rft.errors import OutputError, UsageError
from rft.events import Phase
from rft.imports import require_packages
from rft.run_folder.recorder import CONFIG, SUMMARY, read_metrics, read_rollouts
from rft.run_folder.rollout_lines import RolloutRecord
from rft.wording import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MANIFEST = "manifest.json"


class Run:
    """A training run, finished or not.

    Every attribute reads the folder when it is used, so the `Run` of a run in progress follows it. Nothing is written.

    Args:
        folder: The run folder.

    Raises:
        OutputError: The folder contains no training run.

    Example:
        run = rft.open_run("runs/quickstart/2026-11-28_10-15-00")
        run.summary["eval"]["difference"]["mean"]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        """The run folder."""
        if not os.path.exists(self.folder):  # unlike Path.exists, it does not raise for names that are too long
            raise OutputError("run", [f"{self.folder} does not exist{_working_directory(self.folder)}"])
        if not ((self.folder / CONFIG).is_file() and (self.folder / MANIFEST).is_file()):
            raise OutputError("run", [f"{self.folder} holds no training run{_suggestion(self.folder)}"])

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as in config.yaml; secrets are hidden."""
        return cast(dict[str, Any], read_yaml(self.folder / CONFIG, what="run"))

    @property
    def summary(self) -> dict[str, Any]:
        """The results, as in summary.json; without this file, the results so far.

        `status` is `finished`, `interrupted`, `pruned`, `failed`, or `unfinished` (the run continues or was killed).
        """
        file = self.folder / SUMMARY
        lines = read_metrics(self.folder)
        last_step = max((line["step"] for line in lines), default=0)
        if file.is_file():
            summary: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
            if summary["steps"] >= last_step:  # otherwise the run was resumed after it wrote this summary
                return summary
        from rft.run_folder.results import summary_of

        config = self.config
        mixture = config["data"].get("mixture", {})  # absent from runs of earlier versions
        has_test = config["data"]["test"] or any(family["test"] for family in mixture.values())
        return summary_of(
            self.folder,
            graders=config["graders"],
            families={name: family["graders"] for name, family in mixture.items()},
            evaluation=config["evaluation"],
            status="unfinished",
            split="test" if has_test else "validation",
            wall_s=self._seconds_so_far(lines),
        )

    @property
    def status(self) -> str:
        """How the run ended: `summary["status"]`."""
        return str(self.summary["status"])

    @property
    def metrics(self) -> DataFrame:
        """One row for each step; step 0 is the measurement before the run.

        The columns are the names in metrics.jsonl, with `seconds/<phase>` for times and `drops/<cause>` for rollouts
        without a reward. A number that a step does not have is NaN.

        Raises:
            InstallError: pandas is not installed.
        """
        require_packages("Run.metrics", "pandas")
        import pandas

        rows = [
            {
                "step": line["step"],
                "policy_version": line["policy"]["version"],
                **line["metrics"],
                **{f"drops/{cause}": count for cause, count in line["drops"].items()},
                **{f"seconds/{phase}": seconds for phase, seconds in line["seconds"].items()},
                "time": datetime.fromisoformat(line["time"]),
            }
            for line in read_metrics(self.folder)
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["step"]).set_index("step")

    def rollouts(self, *, phase: Phase | None = None, step: int | None = None) -> Iterator[RolloutRecord]:
        """Read the recorded completions with their grades, one after another.

        Args:
            phase: Only completions of this phase: `train`, `validation`, `before`, `after` or `pass rate`.
            step: Only completions of this step.

        Raises:
            UsageError: There is no such phase.

        Example:
            best = max(run.rollouts(phase="train", step=20), key=lambda rollout: rollout["reward"] or 0.0)
        """
        if phase is not None:
            _refuse_unknown("phase", phase, get_args(Phase))
        lines = read_rollouts(self.folder, phase)
        return (cast(RolloutRecord, line) for line in lines if step is None or line["step"] == step)

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter, in PEFT format.

        Raises:
            OutputError: The run has written no adapter.
        """
        return self._result("adapter", "model", "it published whole models (learner.adapter): see Run.model")

    @property
    def model(self) -> Path:
        """Folder of the trained model, in Hugging Face format, for a run that trained all weights.

        Raises:
            OutputError: The run has written no model.
        """
        return self._result("model", "adapter", "it trained an adapter: see Run.adapter, or rft merge")

    def plot(self, kind: Literal["reward", "training"] = "reward") -> Figure:
        """Draw the run. A notebook shows the figure; `figure.savefig("reward.png")` writes it.

        Args:
            kind: `reward` for the rewards during training and on held-out tasks; `training` for lengths, scores,
                loss and times.

        Raises:
            InstallError: matplotlib is not installed.
            UsageError: There is no such kind of plot.
        """
        _refuse_unknown("plot", kind, ("reward", "training"))
        require_packages("Run.plot", "matplotlib")
        from rft.run_folder.plots import reward_figure, training_figure

        return {"reward": reward_figure, "training": training_figure}[kind](self.folder)

    def __repr__(self) -> str:
        summary = self.summary
        parts = [f"{summary['status']} after {plural(summary['steps'], 'step')}"]
        rewards = summary["reward"]
        if rewards["first"] is not None and rewards["last"] is not None:
            parts.append(f"reward {rewards['first']:.3f} to {rewards['last']:.3f}")
        if summary["eval"]["difference"]:
            from rft.metrics.intervals import Estimate

            difference = Estimate.from_json(summary["eval"]["difference"])
            parts.append(f"held-out {difference.text(signed=True)}")
        return f"<rft.Run {self.folder}: {', '.join(parts)}>"

    def _result(self, name: str, other: str, hint: str) -> Path:
        if (folder := self.folder / name).is_dir():
            return folder
        summary = self.summary
        status = f"it is {summary['status']} after {plural(summary['steps'], 'step')}"
        why = hint if (self.folder / other).is_dir() else status
        raise OutputError("run", [f"{self.folder} has no {name}: {why}"])

    def _seconds_so_far(self, lines: list[dict[str, Any]]) -> float:
        """Return the seconds from the start of the run to its last step; 0 if the clock was set back in between."""
        started = json.loads((self.folder / MANIFEST).read_text())["started_at"]
        last = lines[-1]["time"] if lines else started
        return max(0.0, (datetime.fromisoformat(last) - datetime.fromisoformat(started)).total_seconds())


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Open a training run, finished, failed or in progress.

    Args:
        folder: The run folder, such as `runs/quickstart/2026-11-28_10-15-00`.

    Raises:
        OutputError: The folder holds no training run.

    Example:
        run = rft.open_run("runs/quickstart/2026-11-28_10-15-00")
        run.metrics["reward/mean"].plot()
    """
    return Run(folder)


def _suggestion(folder: Path) -> str:
    """Return the newest run below a folder, as a suggestion."""
    runs = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda file: file.stat().st_mtime)
    return f"; did you mean {runs[-1].parent}?" if runs else f" (no {MANIFEST})"


def _working_directory(folder: Path) -> str:
    """Return the folder that a relative path starts from, as a remark."""
    return "" if folder.is_absolute() else f" (working directory: {Path.cwd()})"


def _refuse_unknown(name: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise UsageError("run", [f"{name}={given!r}: unknown; available: {', '.join(map(repr, allowed))}"])
