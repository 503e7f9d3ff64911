"""What embedders behind an address share: texts go in requests of limited size, and their vectors are checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rft.retrieval.stores.protocol import StoreFault

Vectors = NDArray[np.float32]
MAX_TEXTS = 64
MAX_CHARS = 100_000
"""Limits of one request. VoyageAI's strictest models take 120,000 tokens, and a token has at least one character."""


async def embed_in_requests(
    texts: Sequence[str],
    ask: Callable[[Sequence[str]], Awaitable[Sequence[Any]]],
    *,
    dimensions: int,
    where: str,
) -> Vectors:
    """Return the `[n, d]` float32 vectors of texts, each of length 1, or of 0 for a text without content.

    Args:
        texts: `[n]` texts. Those without content are not sent, because services refuse them.
        ask: Returns one vector for each text of a request.
        dimensions: Components of a vector, as configured.
        where: The model and its address, for messages.

    Raises:
        StoreFault: A vector is missing, has another length, is not finite, or is zero and thus has no direction.
    """
    matrix = np.zeros((len(texts), dimensions), np.float32)
    places = [place for place, text in enumerate(texts) if text.strip()]
    for part in _requests([texts[place] for place in places]):
        sent, places = places[: len(part)], places[len(part) :]
        matrix[sent] = _checked(await ask(part), num_texts=len(part), dimensions=dimensions, where=where)
    return matrix


def _checked(rows: Sequence[Any], *, num_texts: int, dimensions: int, where: str) -> Vectors:
    if len(rows) != num_texts:
        raise StoreFault(f"{where}: {len(rows)} vectors for {num_texts} texts")
    try:
        vectors = [np.asarray(row, dtype=np.float32).reshape(-1) for row in rows]
    except (TypeError, ValueError, OverflowError):
        raise StoreFault(f"{where}: the reply holds a vector that is no list of numbers") from None
    if wrong := {len(vector) for vector in vectors} - {dimensions}:
        raise StoreFault(
            f"{where}: vectors of {', '.join(map(str, sorted(wrong)))} numbers, but dimensions={dimensions}"
        )
    matrix = np.stack(vectors)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise StoreFault(f"{where}: a vector with a number that is not finite")
    if not lengths.all():
        raise StoreFault(f"{where}: a vector of zeros, which resembles no text")
    unit: Vectors = matrix / lengths
    return unit


def _requests(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into requests of at most `MAX_TEXTS` texts and `MAX_CHARS` characters. A longer text goes alone."""
    first, num_chars = 0, 0
    for place, text in enumerate(texts):
        if place > first and (place - first == MAX_TEXTS or num_chars + len(text) > MAX_CHARS):
            yield texts[first:place]
            first, num_chars = place, 0
        num_chars += len(text)
    if first < len(texts):
        yield texts[first:]
