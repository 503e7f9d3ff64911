"""Times a local index of 100,000 passages with 384 numbers each: building, loading, and searching in batches of 64.

    python benchmarks/retrieval.py [--passages 100000]

The passages are made of 50,000 words with Zipf's frequencies, 60 words each; a query has 10 of the words of a passage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rft.config.index import IndexBuildConfig
from rft.config.retrieval.local import LocalRetrievalConfig
from rft.retrieval.documents import build_index
from rft.retrieval.passages import Query
from rft.retrieval.stores.local import LocalStore

WORDS, WORDS_OF_PASSAGE, WORDS_OF_QUERY, BATCH, BATCHES = 50_000, 60, 10, 64, 5


def now() -> NDArray[np.float64]:
    """Return the seconds on the wall and those of the processor, which other programs do not lengthen."""
    return np.array([time.perf_counter(), time.process_time()])


def in_words(seconds: NDArray[np.float64]) -> str:
    """Return both times."""
    wall, processor = seconds
    return f"{wall:.2f} s ({processor:.2f} s of processor time)"


async def measure(num_passages: int, folder: Path) -> None:
    """Print the times."""
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(generator.choice(letters, generator.integers(3, 11))) for _ in range(WORDS)]
    shares = 1 / np.arange(1, WORDS + 1)
    drawn = generator.choice(WORDS, (num_passages, WORDS_OF_PASSAGE), p=shares / shares.sum())
    file = folder / "documents.jsonl"
    file.write_text("".join(json.dumps({"text": " ".join(words[number] for number in row)}) + "\n" for row in drawn))

    began = now()
    await build_index(IndexBuildConfig(documents=str(file), out=str(folder / "index")))
    print(f"{num_passages:,} passages: built in {in_words(now() - began)}")

    began = now()
    store = LocalStore(LocalRetrievalConfig(index=str(folder / "index")))
    await store.fingerprint()
    print(f"loaded in {in_words(now() - began)}")

    rows = generator.integers(0, num_passages, (BATCHES, BATCH))
    seconds, found = [], 0
    for batch in rows:
        queries = [Query(text=" ".join(words[word] for word in drawn[row][:WORDS_OF_QUERY])) for row in batch]
        began = now()
        results = await store.search(queries, 4)
        seconds.append((now() - began) / BATCH)
        found += sum(str(row + 1) in {passage.id for passage in own} for row, own in zip(batch, results, strict=True))
    wall, processor = 1e3 * np.median(seconds, axis=0)
    print(f"{wall:.1f} ms a query ({processor:.1f} ms of processor time)")
    print(f"its passage is among the best 4 of {found} of {rows.size} queries")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=100_000)
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(measure(parser.parse_args().passages, Path(place)))
