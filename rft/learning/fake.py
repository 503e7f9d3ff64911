"""A fake learner, which learns nothing and publishes a new version after every step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from rft.config.adapters import LowRankConfig
from rft.learning.checkpoints import new_checkpoint, step_of
from rft.learning.publication_record import PublicationRecord
from rft.learning.spec import LearnerSpec
from rft.types import Adapter, GradedGroup, Logprobs, Policy, Publication


class FakeLearner:
    """Counts steps.

    Args:
        spec: Spec of the learner. Checkpoints go into its `run_folder`; `resume_from` restores one.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self._spec = spec
        self._steps_done = 0
        self._published = PublicationRecord(spec.version_0, spec.run.loop.staleness)
        if spec.resume_from is not None:
            self._steps_done = step_of(spec.resume_from)
            self._published.load(spec.resume_from, self._publication())

    @property
    def steps_done(self) -> int:
        """Completed steps, including those before a resume."""
        return self._steps_done

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Count a step. Refuse rollouts of other policies, like a real learner."""
        self._published.check(groups, steps_done=self._steps_done)
        self._steps_done += 1
        return {"loss": 0.0}

    def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return nothing: a step compares no completion with the start."""
        return []

    def publish(self) -> Publication:
        """Publish a tensor filled with the number of steps, and one that names the start, if there is one."""
        publication = self._publication()
        self._published.add(publication)
        return publication

    def policy(self) -> Policy:
        """Return what `publish` would publish."""
        return self._publication().policy

    def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from, unchanged."""
        return None if self._spec.start is None else Publication(weights=self._spec.start)

    def base_canary_logprobs(self) -> Logprobs:
        """Return no scores."""
        return ()

    def history(self) -> list[Publication]:
        """Return the last publications, oldest first."""
        return self._published.all()

    def checksum(self) -> int:
        """Return the number of steps."""
        return self._steps_done

    def release_memory(self) -> None:
        """Do nothing."""

    def save(self) -> None:
        """Write the number of steps and the last publications."""
        self.publish()
        spec = self._spec
        with new_checkpoint(spec.run_folder, step=self._steps_done, keep=spec.run.loop.keep_checkpoints) as aside:
            folder = aside / f"checkpoint-{self._steps_done}"
            folder.mkdir()
            self._published.save(folder)

    def close(self) -> None:
        """Do nothing."""

    def _publication(self) -> Publication:
        tensors: dict[str, Any] = {"fake": np.full(4, float(self._steps_done), dtype=np.float32)}
        if (start := self._spec.start) is not None:
            tensors["start"] = np.frombuffer(start.policy.fingerprint.encode(), dtype=np.uint8)
        data = safetensors.numpy.save(tensors)
        policy = Policy(version=self._steps_done, fingerprint=hashlib.sha256(data).hexdigest()[:16])
        adapter = self._spec.run.learner.adapter
        config: dict[str, Any] = {"base_model_name_or_path": self._spec.model_name}
        config |= {"r": adapter.rank, "lora_alpha": adapter.alpha} if isinstance(adapter, LowRankConfig) else {}
        return Publication(weights=Adapter(policy=policy, config=config, tensors=data))
