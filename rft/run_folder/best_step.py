"""The best step of a run with `evaluation.patience`, and its policy in `best/` of the run folder.

    best/step-000020/publication.json, best/step-000020/<policy>.safetensors

A resumed run computes the best step again from metrics.jsonl. An older policy therefore stays as long as it was the
best one at a kept checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from rft.config.evaluation import EvaluationConfig
from rft.learning.checkpoints import complete_checkpoints
from rft.learning.publication_record import publication_from_json, publication_to_json
from rft.run_folder.recorder import read_metrics
from rft.run_folder.result_folders import whole_folder
from rft.types import Publication, StoredWeights

FOLDER = "best"
"""Folder of a run with the policy of its best step."""
LOSS = "eval/loss"
"""Metric of a step after which the loss on the answers of validation tasks was measured."""
_CRITERIA: Mapping[str, tuple[str, int]] = {"score": ("eval/mean", 1), "loss": (LOSS, -1)}
"""The metric of a measurement by `evaluation.best_metric`, and 1 if a higher one is better, -1 if a lower one is."""
_PUBLICATION = "publication.json"


class BestStep:
    """The best measurement of the validation tasks so far: the highest score, or the lowest loss.

    Args:
        folder: The run folder. Its metrics.jsonl holds the earlier measurements of a resumed run.
        how: `evaluation` of the configuration. `patience` is the number of measurements without a better one after
            which the run ends; None never ends it, and keeps no policy. `best_metric` says what is better.
    """

    def __init__(self, folder: Path, how: EvaluationConfig) -> None:
        self._run = folder
        self._folder = folder / FOLDER
        self._patience = how.patience
        self._metric, self._sign = _CRITERIA[how.best_metric]
        self._scores: dict[int, float] = {
            line["step"]: self._sign * line["metrics"][self._metric]
            # Without the folder, the measurements are from before patience was set, and no policy was kept.
            for line in (read_metrics(folder) if how.patience is not None and self._folder.is_dir() else ())
            if line["metrics"].get(self._metric) is not None
        }
        if self.step is not None and not self._of(self.step).is_dir():
            self._scores.clear()  # best_metric has changed since, and the policy of this step was not kept

    @property
    def step(self) -> int | None:
        """The best step; the first of equal ones. None before the first measurement, and without patience."""
        return self._best(up_to=math.inf)

    @property
    def is_over(self) -> bool:
        """Whether the patience is used up."""
        best = self.step
        if self._patience is None or best is None:
            return False
        return sum(step > best for step in self._scores) >= self._patience

    def observe(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Add the metrics of a step; return whether it is the best so far, so that its policy must be kept."""
        value = metrics.get(self._metric)
        if self._patience is None or value is None or not math.isfinite(value):
            return False
        self._scores[step] = self._sign * value
        return self.step == step

    def keep(self, step: int, publication: Publication) -> None:
        """Write the policy of a step into the run folder.

        Args:
            step: The step.
            publication: Its policy, with the weights themselves.

        Raises:
            WriteError: The disk is full or cannot be written.
        """
        weights = publication.weights
        assert not isinstance(weights, StoredWeights)  # a reference is worth nothing on disk
        self._folder.mkdir(exist_ok=True)
        with whole_folder(self._of(step)) as unfinished:
            (unfinished / f"{weights.policy.name}.safetensors").write_bytes(weights.tensors)
            (unfinished / _PUBLICATION).write_text(json.dumps(publication_to_json(publication)), encoding="utf-8")

    def publication(self) -> Publication | None:
        """Return the policy of the best step; None before the first measurement, and without patience."""
        if self.step is None:
            return None
        folder = self._of(self.step)
        return publication_from_json(json.loads((folder / _PUBLICATION).read_text(encoding="utf-8")), folder)

    def forget_others(self) -> None:
        """Remove the policies that are the best ones neither now nor at a kept checkpoint."""
        steps = [math.inf, *(step for step, _ in complete_checkpoints(self._run))]
        kept = {self._of(best) for step in steps if (best := self._best(up_to=step)) is not None}
        for folder in self._folder.glob("step-*"):
            if folder not in kept:
                shutil.rmtree(folder)

    def _best(self, *, up_to: float) -> int | None:
        steps = [step for step in self._scores if step <= up_to]
        return max(steps, key=lambda step: (self._scores[step], -step), default=None)

    def _of(self, step: int) -> Path:
        return self._folder / f"step-{step:06}"
