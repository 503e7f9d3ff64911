"""The local index: BM25 and reciprocal ranks worked out by hand, equal results in any batch, and bad input."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from rft.api.index import check_index, make_index
from rft.config.embedders.hashing import HashingEmbedderConfig
from rft.config.index import IndexBuildConfig, IndexCheckConfig
from rft.config.retrieval.local import LocalRetrievalConfig
from rft.errors import UsageError
from rft.retrieval import documents as documents_module
from rft.retrieval.bm25 import make_postings
from rft.retrieval.embedders.hashing import HashingEmbedder
from rft.retrieval.embedders.protocol import Vectors
from rft.retrieval.index_folder import read_index
from rft.retrieval.passages import Query
from rft.retrieval.recall import measure_recall
from rft.retrieval.stores.local import LocalStore, fused
from rft.retrieval.stores.protocol import StoreFault

TEXTS = ["orchid orchid water", "water the vanda", "repot it"]


def write(file: Path, rows: Sequence[Mapping[str, object]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("index")
    words = ["orchid", "vanda", "water", "light", "repot", "feed", "flower", "root", "leaf", "pot", "bark", "moss"]
    generator = np.random.default_rng(0)
    rows = [
        {"id": f"p{number}", "text": " ".join(generator.choice(words, 6)), "language": "en" if number % 2 else "de"}
        for number in range(300)
    ]
    make_index(IndexBuildConfig(documents=write(folder / "docs.jsonl", rows), out=str(folder / "index")))
    return str(folder / "index")


def store_of(index: str, search: str = "fused") -> LocalStore:
    return LocalStore(LocalRetrievalConfig.model_validate({"index": index, "search": search}))


def test_bm25_by_hand() -> None:
    scores = make_postings(TEXTS).scores("orchid WATER")
    lengths, mean = [3, 3, 2], 8 / 3

    def weight(count: int, num_with: int, length: int) -> float:
        rarity = math.log(1 + (3 - num_with + 0.5) / (num_with + 0.5))
        return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))

    expected = [weight(2, 1, lengths[0]) + weight(1, 2, lengths[0]), weight(1, 2, lengths[1]), 0.0]
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)


def test_reciprocal_ranks_by_hand(index: str) -> None:
    loaded = read_index(Path(index))
    both = fused(loaded, [[(7, 0.9), (8, 0.8)], [(8, 3.0), (9, 2.0)]])
    assert both == [(8, 1 / 62 + 1 / 61), (7, 1 / 61), (9, 1 / 62)]
    tie = fused(loaded, [[(20, 0.9)], [(3, 5.0)]])
    assert [row for row, _ in tie] == [20, 3], "equal scores are ordered by id, as texts: p20 before p3"


def test_vectors_have_length_1_and_spellings_are_near() -> None:
    vectors = asyncio.run(HashingEmbedder(HashingEmbedderConfig()).embed_queries(["orchids", "orchid", "repot", ""]))
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.4 > abs(vectors[0] @ vectors[2])


@pytest.mark.parametrize("search", ["fused", "vectors", "words"])
def test_a_query_finds_the_same_alone_and_in_a_batch(index: str, search: str) -> None:
    store = store_of(index, search)
    queries = [Query(text=text) for text in ("orchid water light", "vanda root", "moss bark pot", "nothing here")]
    together = asyncio.run(store.search(queries * 16, 5))
    alone = [asyncio.run(store.search([query], 5))[0] for query in queries]
    assert together == alone * 16


def test_the_best_vectors_are_those_of_an_exact_search(index: str) -> None:
    loaded, store = read_index(Path(index)), store_of(index, "vectors")
    (found,) = asyncio.run(store.search([Query(text="orchid water light")], 3))
    (vector,) = asyncio.run(HashingEmbedder(HashingEmbedderConfig()).embed_queries(["orchid water light"]))
    cosines = loaded.vectors.astype(np.float64) @ vector.astype(np.float64)
    assert [passage.score for passage in found] == pytest.approx(sorted(cosines, reverse=True)[:3], abs=1e-6)


def test_a_query_without_words_finds_nothing(index: str) -> None:
    assert asyncio.run(store_of(index).search([Query(text="?! :-)", filters={})], 3)) == [[]]


def test_filters(index: str) -> None:
    (found,) = asyncio.run(store_of(index).search([Query(text="orchid", filters={"language": ["de", "fr"]})], 50))
    assert len(found) == 50
    assert {passage.metadata["language"] for passage in found} == {"de"}
    with pytest.raises(ValueError, match="no passage has lang; their metadata: language"):
        asyncio.run(store_of(index).search([Query(text="orchid", filters={"lang": "de"})], 1))


def test_the_fingerprint_depends_on_content_and_ranking(index: str, tmp_path: Path) -> None:
    prints = {asyncio.run(store_of(index, search).fingerprint()) for search in ("fused", "vectors", "words")}
    rows = [{"text": text} for text in TEXTS]
    make_index(IndexBuildConfig(documents=write(tmp_path / "docs.jsonl", rows), out=str(tmp_path / "index")))
    assert len({*prints, asyncio.run(store_of(str(tmp_path / "index")).fingerprint())}) == 4
    assert [document["id"] for document in read_index(tmp_path / "index").documents] == ["1", "2", "3"]


def test_documents_in_memory_are_the_index_of_a_folder(index: str) -> None:
    in_memory = LocalStore(LocalRetrievalConfig(documents=str(Path(index).parent / "docs.jsonl")))
    in_folder, query = store_of(index), Query(text="orchid water light", filters={"language": "en"})
    assert asyncio.run(in_memory.search([query], 9)) == asyncio.run(in_folder.search([query], 9))


class Wobbling(HashingEmbedder):
    """An API that is overloaded at first, and returns other last digits in each call."""

    num_calls = 0

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        Wobbling.num_calls += 1
        if Wobbling.num_calls == 1:
            raise StoreFault("status 503")
        return await super().embed_documents(texts) + np.float32(1e-7 * Wobbling.num_calls)


def test_an_index_in_memory_is_made_again_after_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "open_embedder", Wobbling)
    config = LocalRetrievalConfig(documents=write(tmp_path / "docs.jsonl", [{"text": text} for text in TEXTS]))

    async def main() -> tuple[str, str]:
        store, other = LocalStore(config), LocalStore(config)
        with pytest.raises(StoreFault, match="status 503"):
            await store.fingerprint()
        loading = asyncio.create_task(store._loaded())
        await asyncio.sleep(0)
        assert store._loading is not None
        store._loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        prints = await store.fingerprint(), await other.fingerprint()
        assert not np.array_equal((await store._loaded()).vectors, (await other._loaded()).vectors)
        return prints

    first, second = asyncio.run(main())
    assert first == second
    write(tmp_path / "docs.jsonl", [{"text": text} for text in TEXTS[:2]])
    assert asyncio.run(LocalStore(config).fingerprint()) != first


def test_recall_by_hand() -> None:
    measured = measure_recall([["a", "b"], ["c", "d"], []], [{"b", "x"}, {"c"}, {"e"}], 2)
    assert measured.recall == {1: pytest.approx(1 / 3), 2: pytest.approx((0.5 + 1) / 3)}
    assert measured.mrr == pytest.approx((1 / 2 + 1) / 3)
    assert measured.misses == (2,)


def test_rows_that_name_no_passage_are_refused_together(index: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "answer": "1"}, {"prompt": "b?", "answer": "2"}]
    with pytest.raises(UsageError, match=r'2 rows, first at .*:1: no column "relevant" with ids of passages'):
        check_index(IndexCheckConfig(index=index, data=write(tmp_path / "questions.jsonl", rows)))


def test_questions_without_an_answer_are_left_out(index: str, tmp_path: Path) -> None:
    text = TEXTS[0]
    rows = [{"prompt": text, "relevant": ["1"]}, {"prompt": text, "relevant": []}, {"prompt": "?", "relevant": []}]
    results, _, num_left_out = check_index(
        IndexCheckConfig(index=index, data=write(tmp_path / "questions.jsonl", rows), top_k=2)
    )
    assert (results["words"].num_queries, num_left_out) == (1, 2)


def test_bad_documents_are_named_together(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}, {"body": "z"}]
    with pytest.raises(UsageError) as caught:
        make_index(IndexBuildConfig(documents=write(tmp_path / "docs.jsonl", rows), out=str(tmp_path / "index")))
    assert [problem.partition("docs.jsonl")[2] for problem in caught.value.problems] == [
        f':2: {tmp_path / "docs.jsonl"}:1 has the same id "a"; make ids unique'.partition("docs.jsonl")[0]
        + 'docs.jsonl:1 has the same id "a"; make ids unique',
        ':3: no "text"; it has: body (rft index build maps one with columns.text=<column>)',
    ]
    with pytest.raises(UsageError, match=r"cannot be kept as JSON: .*surrogates not allowed; save dates as texts"):
        make_index(
            IndexBuildConfig(
                documents=write(tmp_path / "broken.jsonl", [{"text": "\ud83d"}]), out=str(tmp_path / "index")
            )
        )


def test_an_index_of_another_model_or_with_other_files_is_refused(index: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    for file in Path(index).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "documents.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"documents.jsonl is missing or has changed since the index was built"):
        read_index(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"model": "other"}))
    with pytest.raises(ValueError, match="was edited; build the index again"):
        store_of(str(folder))
    with pytest.raises(ValueError, match="holds no index"):
        store_of(str(tmp_path))
