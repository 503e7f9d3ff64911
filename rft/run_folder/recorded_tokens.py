"""Token ids and log-probabilities in a line of rollouts.jsonl, in base64: a third of the size of lists of numbers.

The line contains them under `RECORDED`: `ids` as little-endian uint32, `logprobs` as little-endian float16, and, in the
same way, `teacher_logprobs` where a teacher scored the completion, and `start_logprobs` where the learner compared it
with the start of the run.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft.types import Rollout

RECORDED = "tokens"
"""Key in a line of rollouts.jsonl."""
LOWEST = -1000.0
"""Lowest recorded log-probability; float16 has none below -65504."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTokens:
    """The tokens of a completion, as its line records them.

    Example:
        RecordedTokens(ids=(7, 2), logprobs=(-0.1, -0.3), teacher_logprobs=None, start_logprobs=(-0.2, -0.3))
    """

    ids: tuple[int, ...]
    """`[C]` token ids."""
    logprobs: tuple[float, ...]
    """`[C]` log-probabilities of the sampler, rounded to 11 bits; 0 for tokens that the policy did not sample."""
    teacher_logprobs: tuple[float, ...] | None
    """`[C]` log-probabilities of the teacher, at temperature 1; None without them."""
    start_logprobs: tuple[float, ...] | None
    """`[C]` log-probabilities under the start of the run, at the sampler's temperature; None without them."""


def has_tokens(rollout: Rollout) -> bool:
    """Whether a completion has token ids. One that was written, such as a demonstration, has -1 for each."""
    return min(rollout.completion_ids, default=0) >= 0


def tokens_to_json(
    rollout: Rollout, *, teacher_logprobs: Sequence[float] | None = None, start_logprobs: Sequence[float] | None = None
) -> dict[str, str]:
    """Return the value of `RECORDED`."""
    ids = struct.pack(f"<{len(rollout.completion_ids)}I", *rollout.completion_ids)
    more = {"teacher_logprobs": teacher_logprobs, "start_logprobs": start_logprobs}
    return {
        "ids": base64.b64encode(ids).decode(),
        "logprobs": _numbers(rollout.logprobs),
        **{name: _numbers(values) for name, values in more.items() if values is not None},
    }


def tokens_of(line: Mapping[str, Any]) -> RecordedTokens | None:
    """Return the tokens of a line; None if it has none, or damaged ones."""
    recorded = line.get(RECORDED)
    if not isinstance(recorded, dict):
        return None
    try:
        ids = _unpacked(recorded["ids"], "I")
        logprobs = _unpacked(recorded["logprobs"], "e")
        teacher, start = (
            _unpacked(recorded[name], "e") if recorded.get(name) is not None else None
            for name in ("teacher_logprobs", "start_logprobs")
        )
    except (KeyError, TypeError, ValueError, struct.error):  # binascii.Error is a ValueError
        return None
    if len({len(row) for row in (ids, logprobs, teacher, start) if row is not None}) > 1:
        return None
    return RecordedTokens(ids=ids, logprobs=logprobs, teacher_logprobs=teacher, start_logprobs=start)


def _numbers(values: Sequence[float]) -> str:
    packed = struct.pack(f"<{len(values)}e", *(max(value, LOWEST) for value in values))
    return base64.b64encode(packed).decode()


def _unpacked(text: str, kind: str) -> tuple[Any, ...]:
    content = base64.b64decode(text, validate=True)
    return struct.unpack(f"<{len(content) // struct.calcsize(kind)}{kind}", content)
