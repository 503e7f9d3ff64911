"""BM25 (Robertson and Zaragoza, 2009): how well the words of a text fit those of a query.

The weight of each word in each passage does not depend on the query. It is computed once, so a search only adds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rft.retrieval.words import words_of

K1, B = 1.2, 0.75
"""Saturation of a word's count, and the influence of a passage's length."""


@dataclass(frozen=True, slots=True)
class Postings:
    """The passages of each word, with the word's weight there.

    Example:
        Postings(words={"orchid": 0}, starts=np.array([0, 2]), rows=np.array([0, 7]), weights=np.array([1.3, 0.9]),
                 num_rows=8)
    """

    words: Mapping[str, int]
    """Number of each word."""
    starts: NDArray[np.int64]
    """`[V + 1]` where the passages of each word begin in `rows`."""
    rows: NDArray[np.int32]
    """`[P]` numbers of passages, ascending for each word."""
    weights: NDArray[np.float32]
    """`[P]` weight of the word in the passage."""
    num_rows: int
    """Number of passages."""

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the `[n]` scores of all passages; 0 for those without a word of the query."""
        scores = np.zeros(self.num_rows, np.float32)
        for word in words_of(query):
            if (number := self.words.get(word)) is not None:
                own = slice(*self.starts[number : number + 2])
                scores[self.rows[own]] += self.weights[own]  # a passage occurs once
        return scores


def make_postings(texts: Sequence[str]) -> Postings:
    """Return the postings of passages.

    A word in n of N passages, with the count c in a passage of length l, weighs
    log(1 + (N - n + 0.5) / (n + 0.5)) * c (k1 + 1) / (c + k1 (1 - b + b l / mean l)).

    Args:
        texts: `[N]` texts of the passages.
    """
    number_of: dict[str, int] = {}
    numbers: list[NDArray[np.int64]] = []
    for text in texts:
        own = [number_of.setdefault(word, len(number_of)) for word in words_of(text)]
        numbers.append(np.array(own, np.int64))
    lengths = np.array([len(own) for own in numbers], np.int64)
    rows = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    # Sorted by word, then by passage.
    keys, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *numbers]) * max(1, len(texts)) + rows,
                             return_counts=True)  # fmt: skip
    words, rows = np.divmod(keys, max(1, len(texts)))
    num_with = np.bincount(words, minlength=len(number_of))
    rarity = np.log1p((len(texts) - num_with + 0.5) / (num_with + 0.5))
    fullness = 1 - B + B * lengths / max(lengths.mean() if len(lengths) else 0.0, 1.0)
    weights = rarity[words] * counts * (K1 + 1) / (counts + K1 * fullness[rows])
    return Postings(
        words=number_of,
        starts=np.concatenate([[0], np.cumsum(num_with)]).astype(np.int64),
        rows=rows.astype(np.int32),
        weights=weights.astype(np.float32),
        num_rows=len(texts),
    )
