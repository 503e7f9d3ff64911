"""Numbers of a split: rows, lengths, labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rft.data.hygiene.findings import Finding, labels_of
from rft.data.hygiene.lookalikes import words_of
from rft.data.hygiene.rows import DataRow
from rft.types import Split
from rft.wording import plural

Length = Callable[[str], int]
"""Returns the length of a text."""


def num_words(text: str) -> int:
    """Return the number of words and numbers of a text."""
    return len(words_of(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The distribution of lengths.

    Example:
        Lengths(min=3, median=12, p95=40, max=122)
    """

    min: int
    """The shortest."""
    median: int
    """Half are at most so long."""
    p95: int
    """95% are at most so long."""
    max: int
    """The longest."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths | None:
        """Return the distribution of lengths; None if there are none."""
        if not lengths:
            return None
        low, median, p95, high = np.quantile(lengths, [0, 0.5, 0.95, 1], method="inverted_cdf").tolist()
        return cls(min=low, median=median, p95=p95, max=high)


def statistics_of(rows: Sequence[DataRow], length: Length) -> dict[str, Any]:
    """Return the numbers of a split as JSON values.

    Args:
        rows: The rows.
        length: Returns the length of a text in words or tokens.
    """
    answers = [row.answer for row in rows if row.answer is not None]
    lengths = {
        "prompt": Lengths.of([length(row.prompt) for row in rows]),
        "answer": Lengths.of([*map(length, answers)]),
    }
    return {
        "rows": len(rows),
        "prompts": len({row.prompt for row in rows}),
        "answers": len(answers),
        **{
            name: None if own is None else {"min": own.min, "median": own.median, "p95": own.p95, "max": own.max}
            for name, own in lengths.items()
        },
        "labels": dict(labels_of(rows).most_common()),
    }


def too_long(rows: Sequence[DataRow], length: Length, limit: int) -> list[Finding]:
    """Return a warning for each split with rows whose prompt and answer take more than `limit` tokens together.

    Only training rows are to be dropped: a measurement without its longest tasks would be another, easier one.
    """
    found: dict[Split, dict[DataRow, str]] = {}
    for row in rows:
        if (tokens := length(row.prompt) + length(row.answer or "")) > limit:
            found.setdefault(row.split, {})[row] = f"{tokens:,} tokens are more than the context of {limit:,}"
    return [
        Finding(
            name="length",
            level="warning",
            message=f"{plural(len(own), 'row')} of {split} with more than {limit:,} tokens, without the chat template"
            + ("; they stay, because a measurement without them would be easier" if split is not Split.TRAIN else ""),
            places=tuple(f"{row.where}: {reason}" for row, reason in own.items()),
            drop=own if split is Split.TRAIN else {},
        )
        for split, own in found.items()
    ]
