"""A fake learner: it learns nothing and publishes a new version after every step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import safetensors.numpy

from rft.learning.spec import COMPLETE, LearnerSpec
from rft.types import Adapter, GradedGroup, Policy


class FakeLearner:
    """Counts steps.

    Args:
        spec: Its `run_folder` takes the checkpoints, its `resume_from` says where to go on.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._steps_done = 0
        if spec.resume_from is not None:
            self._steps_done = json.loads((spec.resume_from / COMPLETE).read_text())["step"]

    @property
    def steps_done(self) -> int:
        """Steps so far, those before a resume included."""
        return self._steps_done

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Count a step."""
        self._steps_done += 1
        return {"loss": 0.0}

    def publish(self) -> Adapter:
        """One tensor, filled with the number of steps."""
        data = safetensors.numpy.save({"fake": np.full(4, float(self._steps_done), dtype=np.float32)})
        policy = Policy(version=self._steps_done, fingerprint=hashlib.sha256(data).hexdigest()[:16])
        return Adapter(policy=policy, config={"base_model_name_or_path": self._spec.model_name}, tensors=data)

    def save(self) -> None:
        """Write the number of steps."""
        folder = self._spec.run_folder / "checkpoints" / f"checkpoint-{self._steps_done}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMPLETE).write_text(json.dumps({"step": self._steps_done}))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Nothing listens."""

    def close(self) -> None:
        """Nothing to end."""
