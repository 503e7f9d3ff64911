"""Vectors without a model: words and their n-grams, hashed (feature hashing of Weinberger et al., 2009).

Each word is its own feature, and so is each run of three to five characters in it, with its borders. A feature adds +1
or -1 at one place of the vector, both from its CRC-32. Longer words have more features, so they weigh more. Texts with
the same words are near, and so are spellings and inflections; the vectors know no meanings.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rft.config.embedders.hashing import HashingEmbedderConfig
from rft.retrieval.embedders.protocol import Vectors
from rft.retrieval.words import words_of

NGRAMS = (3, 4, 5)
"""Lengths of the runs of characters."""
BATCH_TEXTS = 2048
"""Texts whose distinct words are in memory at the same time."""

CACHED_WORDS = 1 << 18
"""Words whose hashes are kept."""


class HashingEmbedder:
    """Hashes words and n-grams. Implements `Embedder`; documents and queries are alike."""

    def __init__(self, config: HashingEmbedderConfig) -> None:
        self.model = "hashing-1"
        self.dimensions = config.dimensions

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of passages."""
        starts = range(0, len(texts), BATCH_TEXTS)
        parts = [self._embed(texts[start : start + BATCH_TEXTS]) for start in starts]
        return np.concatenate([np.zeros((0, self.dimensions), np.float32), *parts])

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of queries."""
        return await self.embed_documents(texts)

    async def close(self) -> None:
        """Nothing is open."""

    def _embed(self, texts: Sequence[str]) -> Vectors:
        words = [words_of(text) for text in texts]
        distinct = list(dict.fromkeys(word for row in words for word in row))
        features = self._features(distinct)
        number_of = {word: number for number, word in enumerate(distinct)}
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, own in enumerate(words):
            if own:
                # Whole numbers below 2^24, so the sum is exact in any order.
                features[[number_of[word] for word in own]].sum(axis=0, out=vectors[row])
        lengths: Vectors = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
        vectors /= np.maximum(lengths, 1.0)
        return vectors

    def _features(self, words: Sequence[str]) -> Vectors:
        """Return the `[V, d]` sums of the features of words."""
        hashes = [_hashes(word) for word in words]
        values = np.concatenate([np.zeros(0, np.uint32), *hashes])
        rows = np.repeat(np.arange(len(words)), [len(own) for own in hashes])
        places = rows * self.dimensions + values % self.dimensions
        signs = np.where(values >> np.uint32(31), 1.0, -1.0)
        sums = np.bincount(places, signs, minlength=len(words) * self.dimensions)
        return sums.astype(np.float32).reshape(len(words), self.dimensions)


@functools.lru_cache(maxsize=CACHED_WORDS)
def _hashes(word: str) -> NDArray[np.uint32]:
    """Return the hashes of a word and of the runs of characters in it."""
    framed = f"<{word}>"
    runs = [framed[at : at + size] for size in NGRAMS for at in range(len(framed) - size + 1)]
    return np.array([zlib.crc32(feature.encode()) for feature in (word, *runs)], np.uint32)
