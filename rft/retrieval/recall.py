"""How well a store finds the passages that rows name as relevant: recall and mean reciprocal rank."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

CUTS = (1, 3, 5, 10)
"""Numbers of passages for which recall is computed, up to those searched for."""


@dataclass(frozen=True, slots=True)
class Recall:
    """The quality of searches.

    Example:
        Recall(num_queries=2, recall={1: 0.5, 3: 0.75}, mrr=0.75, misses=(1,))
    """

    num_queries: int
    """Number of searches."""
    recall: Mapping[int, float]
    """Mean share of a query's relevant passages among its first k, by k."""
    mrr: float
    """Mean of 1 / rank of the first relevant passage; 0 for a query that finds none."""
    misses: tuple[int, ...]
    """Numbers of the queries that find no relevant passage."""


def measure_recall(found: Sequence[Sequence[str]], relevant: Sequence[Collection[str]], top_k: int) -> Recall:
    """Return the quality of searches.

    Args:
        found: `[Q]` ids of the passages found, the best first.
        relevant: `[Q]` ids of the relevant passages, at least one of each query.
        top_k: Number of passages searched for.
    """
    num = len(found)
    cuts = sorted({*(cut for cut in CUTS if cut < top_k), top_k})
    ranks = [
        next((rank for rank, own in enumerate(ids, start=1) if own in wanted), None)
        for ids, wanted in zip(found, relevant, strict=True)
    ]
    return Recall(
        num_queries=num,
        recall={
            cut: sum(
                len({*ids[:cut]} & {*wanted}) / len({*wanted}) for ids, wanted in zip(found, relevant, strict=True)
            )
            / num
            for cut in cuts
        },
        mrr=sum(1 / rank for rank in ranks if rank) / num,
        misses=tuple(number for number, rank in enumerate(ranks) if rank is None),
    )
