"""Batches on their way to the learner's actors, beside Ray's object store."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from rft.learning import batch_parts
from rft.learning.batch_parts import PART_BYTES, from_parts, to_parts


@pytest.mark.parametrize(("num_tokens", "num_parts"), [(2, 1), (20_000, 5)])
def test_a_batch_arrives_as_it_was_sent(make_group: Any, num_tokens: int, num_parts: int) -> None:
    ids = tuple(range(100_000, 100_000 + num_tokens))  # pickled, 5 bytes each; a log-probability 9
    group = make_group([1.0, None], completion_ids=ids, logprobs=tuple(-float(token) for token in ids))
    parts = to_parts([group])
    assert len(parts) == num_parts  # 20,000 * 14 bytes, and at most one part for all the rest
    assert max(map(len, parts)) <= PART_BYTES
    assert from_parts(parts) == [group]


def test_a_large_batch_is_stored_once_for_all_ranks(make_group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[bytes] = []
    monkeypatch.setattr(batch_parts, "MAX_BYTES", 10)
    monkeypatch.setattr(ray, "put", lambda packed: stored.append(packed) or "reference")
    assert to_parts([make_group([1.0])]) == ["reference"]
    assert from_parts(stored) == [make_group([1.0])]
