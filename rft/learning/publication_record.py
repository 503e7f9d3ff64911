"""Records a learner's publications, whose rollouts the learner accepts, and with which a resumed run samples again.

The learner accepts a rollout if it published the rollout's policy, with the same version and fingerprint, or if that
policy is the base model (version 0); and if the policy is at most `staleness` versions old. Every checkpoint contains
the record.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rft.errors import LearnError
from rft.models.weight_files import mapped
from rft.types import Adapter, FullWeights, GradedGroup, Policy, Publication, Rollout, StoredWeights

FOLDER = "published"
"""Folder of a checkpoint that holds the record."""
_RECORD = "publications.json"


class PublicationRecord:
    """The last publications of a learner, whose rollouts it accepts.

    Args:
        base: The policy of the base model, version 0.
        staleness: Versions that a rollout may lag behind.
    """

    def __init__(self, base: Policy, staleness: int) -> None:
        self._base = base
        self._staleness = staleness
        self._kept: deque[Publication] = deque(maxlen=staleness + 1)

    def add(self, publication: Publication) -> None:
        """Record a publication; it replaces the last one if that has the same version."""
        if self._kept and self._kept[-1].policy.version == publication.policy.version:
            self._kept.pop()
        self._kept.append(publication)

    def newest(self, version: int) -> Publication | None:
        """Return the last publication if it has this version, else None."""
        return self._kept[-1] if self._kept and self._kept[-1].policy.version == version else None

    def all(self) -> list[Publication]:
        """Return the recorded publications, oldest first, without the base model."""
        return list(self._kept)

    def check(self, groups: Sequence[GradedGroup], *, steps_done: int) -> None:
        """Refuse rollouts of other policies, and of policies that are too old.

        Raises:
            LearnError: Names the number of refused rollouts, the first of them, and the published policies.
        """
        oldest = max(0, steps_done - self._staleness)
        known = [self._base, *(publication.policy for publication in self._kept)]
        allowed = {policy for policy in known if oldest <= policy.version <= steps_done}
        wrong = [rollout for group in groups for rollout in group.rollouts if rollout.policy not in allowed]
        if wrong:
            raise LearnError(_refusal(wrong, known=known, oldest=oldest, steps_done=steps_done))

    def save(self, checkpoint: Path) -> None:
        """Write the record into a checkpoint: all policies, and all weights but the newest.

        The checkpoint itself contains the newest weights.
        """
        folder = checkpoint / FOLDER
        folder.mkdir()
        kept = list(self._kept)
        for publication in kept[:-1]:
            weights = publication.weights
            assert not isinstance(weights, StoredWeights)  # a learner keeps its own weights
            (folder / f"{publication.policy.name}.safetensors").write_bytes(weights.tensors)
        text = json.dumps([publication_to_json(publication) for publication in kept])
        (folder / _RECORD).write_text(text, encoding="utf-8")

    def load(self, checkpoint: Path, newest: Publication) -> None:
        """Restore the record from a checkpoint.

        Args:
            checkpoint: Folder of the checkpoint.
            newest: Publication of the learner after its weights were restored.

        Raises:
            LearnError: The restored weights differ from the saved ones, or the record is damaged.
        """
        folder = checkpoint / FOLDER
        try:
            record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
            saved = Policy(**record[-1]["policy"])
            older = [publication_from_json(entry, folder) for entry in record[:-1]]
        except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise LearnError(f"{folder / _RECORD} is damaged: {type(error).__name__}: {error}") from error
        if saved != newest.policy:
            raise LearnError(
                f"the weights restored from {checkpoint} differ from the saved ones: saved was {_named([saved])}, "
                f"restored was {_named([newest.policy])}; restore the run's base model, or start a new run"
            )
        self._kept.extend([*older, newest])


def _refusal(wrong: Sequence[Rollout], *, known: Iterable[Policy], oldest: int, steps_done: int) -> str:
    first = wrong[0]
    old = first.policy in known
    why = (
        f"the policy is too old: after {steps_done} steps the learner accepts versions {oldest} to {steps_done}; "
        "raise loop.staleness to accept older ones"
        if old
        else "this learner did not publish the policy; a sampler served wrong weights"
    )
    return (
        f"refused {len(wrong)} rollout(s); the first is rollout {first.index} of task {first.task_id}, sampled by "
        f"{_named([first.policy])}: {why}. Published: {_named(known)}"
    )


def _named(policies: Iterable[Policy]) -> str:
    return ", ".join(f"version {policy.version} ({policy.fingerprint})" for policy in policies)


def publication_to_json(publication: Publication) -> dict[str, Any]:
    """Return everything of a publication but its tensors, as JSON values."""
    weights = publication.weights
    return {
        "policy": asdict(publication.policy),
        "adapter_config": dict(weights.config) if isinstance(weights, Adapter) else None,
        "canary_logprobs": publication.canary_logprobs,
        "base_canary_logprobs": publication.base_canary_logprobs,
    }


def publication_from_json(entry: dict[str, Any], folder: Path) -> Publication:
    """Return a publication whose tensors are in `<policy name>.safetensors` of a folder.

    Raises:
        ValueError: The fingerprint is no file name.
    """
    policy, config = Policy(**entry["policy"]), entry["adapter_config"]
    file = folder / f"{policy.name}.safetensors"
    if file.parent != folder:
        raise ValueError(f"the fingerprint {policy.fingerprint!r} leads out of the folder")
    weights = (
        FullWeights(policy=policy, tensors=mapped(file))
        if config is None
        else Adapter(policy=policy, config=config, tensors=file.read_bytes())
    )
    return Publication(
        weights=weights,
        canary_logprobs=tuple(map(tuple, entry["canary_logprobs"])),
        base_canary_logprobs=tuple(map(tuple, entry["base_canary_logprobs"])),
    )
