"""What a learner has published: which rollouts it may learn from, and what a resumed run samples from again.

A rollout counts only if its policy, version and fingerprint, is one that this learner published (or the base model, as
version 0) and if that policy is at most `staleness` versions old. The record travels with every checkpoint.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rft.errors import LearnError
from rft.types import Adapter, FullWeights, GradedGroup, Policy, Publication, Rollout, StoredWeights

FOLDER = "published"
"""Folder of a checkpoint that holds the record."""
_RECORD = "publications.json"


class PublicationRecord:
    """The last publications of a learner, and the policies that its rollouts may come from.

    Args:
        base: The base model, version 0.
        staleness: Versions that a rollout may lag behind.
    """

    def __init__(self, base: Policy, staleness: int) -> None:
        self._base = base
        self._staleness = staleness
        self._kept: deque[Publication] = deque(maxlen=staleness + 1)

    def add(self, publication: Publication) -> None:
        """Put a publication on record; one of the same version replaces the last."""
        if self._kept and self._kept[-1].policy.version == publication.policy.version:
            self._kept.pop()
        self._kept.append(publication)

    def newest(self, version: int) -> Publication | None:
        """The publication of this version if it is the last one on record."""
        return self._kept[-1] if self._kept and self._kept[-1].policy.version == version else None

    def all(self) -> list[Publication]:
        """The publications on record, oldest first; the base model is not among them."""
        return list(self._kept)

    def check(self, groups: Sequence[GradedGroup], *, steps_done: int) -> None:
        """Refuse rollouts of other policies, and of policies that are too old.

        Raises:
            LearnError: Names the first such rollout, how many there are, and what was published.
        """
        oldest = max(0, steps_done - self._staleness)
        known = [self._base, *(publication.policy for publication in self._kept)]
        allowed = {policy for policy in known if oldest <= policy.version <= steps_done}
        wrong = [rollout for group in groups for rollout in group.rollouts if rollout.policy not in allowed]
        if wrong:
            raise LearnError(_refusal(wrong, known=known, oldest=oldest, steps_done=steps_done))

    def save(self, checkpoint: Path) -> None:
        """Write the record into a checkpoint: every policy on it, and the weights of all but the newest.

        The newest policy's weights are those of the checkpoint itself.
        """
        folder = checkpoint / FOLDER
        folder.mkdir()
        kept = list(self._kept)
        for publication in kept[:-1]:
            weights = publication.weights
            assert not isinstance(weights, StoredWeights)  # a learner keeps its own weights
            (folder / f"{publication.policy.name}.safetensors").write_bytes(weights.tensors)
        text = json.dumps([_to_json(publication) for publication in kept])
        (folder / _RECORD).write_text(text, encoding="utf-8")

    def load(self, checkpoint: Path, newest: Publication) -> None:
        """Take over the record of a checkpoint.

        Args:
            checkpoint: Its folder.
            newest: What the learner publishes after it was restored from there.

        Raises:
            LearnError: The restored weights are not those that were saved.
        """
        folder = checkpoint / FOLDER
        record: list[dict[str, Any]] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        saved = Policy(**record[-1]["policy"])
        if saved != newest.policy:
            raise LearnError(
                f"the checkpoint {checkpoint} does not restore what it saved: {_named([saved])} was saved, but "
                f"{_named([newest.policy])} came back; was the base model changed since? Start the run anew"
            )
        for entry in record[:-1]:
            self._kept.append(_from_json(entry, folder))
        self._kept.append(newest)


def _refusal(wrong: Sequence[Rollout], *, known: Iterable[Policy], oldest: int, steps_done: int) -> str:
    first = wrong[0]
    old = first.policy in known
    why = (
        f"that policy is too old: after {steps_done} steps the versions {oldest} to {steps_done} are learned from; "
        "raise loop.staleness to learn from older ones"
        if old
        else "this learner did not publish that policy; a sampler served something else"
    )
    return (
        f"refused {len(wrong)} rollout(s); the first is rollout {first.index} of task {first.task_id}, sampled by "
        f"{_named([first.policy])}: {why}. Published: {_named(known)}"
    )


def _named(policies: Iterable[Policy]) -> str:
    return ", ".join(f"version {policy.version} ({policy.fingerprint})" for policy in policies)


def _to_json(publication: Publication) -> dict[str, Any]:
    weights = publication.weights
    return {
        "policy": asdict(publication.policy),
        "adapter_config": dict(weights.config) if isinstance(weights, Adapter) else None,
        "canary_logprobs": publication.canary_logprobs,
        "base_canary_logprobs": publication.base_canary_logprobs,
    }


def _from_json(entry: dict[str, Any], folder: Path) -> Publication:
    policy, config = Policy(**entry["policy"]), entry["adapter_config"]
    tensors = (folder / f"{policy.name}.safetensors").read_bytes()
    weights = (
        FullWeights(policy=policy, tensors=tensors)
        if config is None
        else Adapter(policy=policy, config=config, tensors=tensors)
    )
    return Publication(
        weights=weights,
        canary_logprobs=tuple(map(tuple, entry["canary_logprobs"])),
        base_canary_logprobs=tuple(map(tuple, entry["base_canary_logprobs"])),
    )
