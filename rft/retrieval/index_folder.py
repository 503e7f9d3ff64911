"""The folder of a local index: passages, their vectors, the postings of BM25, and a manifest with the fingerprint.

index/
  manifest.json     model, dimensions, number of passages, hashes of the other files, fingerprint
  documents.jsonl   {"id": ..., "text": ..., "metadata": {...}} in each line
  vectors.npy       [n, d] float32, in the order of the lines
  postings.npz      words, starts, rows, weights
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from rft.reliability.durable import sync_tree
from rft.retrieval.bm25 import K1, B, Postings
from rft.retrieval.embedders.protocol import Vectors

FORMAT = 1
MANIFEST, DOCUMENTS, VECTORS, POSTINGS = "manifest.json", "documents.jsonl", "vectors.npy", "postings.npz"


class Document(TypedDict):
    """A line of documents.jsonl."""

    id: str
    """Id of the passage, unique in the index."""
    text: str
    """Its text."""
    metadata: dict[str, Any]
    """The other columns of its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index in memory.

    Example:
        Index(documents=[{"id": "p1", "text": "...", "metadata": {}}], vectors=np.zeros((1, 384), np.float32),
              postings=Postings(...), manifest={"model": "hashing-1", "fingerprint": "9b2e51c07d44a1f0", ...})
    """

    documents: Sequence[Document]
    """`[n]` passages."""
    vectors: Vectors
    """`[n, d]` their vectors."""
    postings: Postings
    """Their words."""
    manifest: Mapping[str, Any]
    """The content of manifest.json."""


def pack_index(
    documents: Sequence[Document],
    vectors: Vectors,
    postings: Postings,
    *,
    model: str,
    embedder: Mapping[str, Any],
    source: str,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the content of an index's files by name, and its manifest.

    Args:
        documents: `[n]` passages.
        vectors: `[n, d]` their vectors.
        postings: Their words.
        model: `Embedder.model`.
        embedder: The settings of the embedder.
        source: The file of the documents, for people.
    """
    in_vectors, in_postings = io.BytesIO(), io.BytesIO()
    np.save(in_vectors, vectors, allow_pickle=False)
    np.savez(
        in_postings,
        words=np.frombuffer("\n".join(postings.words).encode(), np.uint8),
        starts=postings.starts,
        rows=postings.rows,
        weights=postings.weights,
    )
    lines = (json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    files = {
        DOCUMENTS: "".join(lines).encode(),
        VECTORS: in_vectors.getvalue(),
        POSTINGS: in_postings.getvalue(),
    }
    manifest = {
        "format": FORMAT,
        "model": model,
        "dimensions": vectors.shape[1],
        "num_passages": len(documents),
        "embedder": dict(embedder),
        "bm25": {"k1": K1, "b": B},
        "source": source,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    manifest["fingerprint"] = _fingerprint(manifest)
    return files, manifest


def write_index(folder: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write an index. The folder appears whole, or not at all.

    Args:
        folder: The folder, which must not exist.
        files: From `pack_index`.
        manifest: From `pack_index`.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / name).write_bytes(content)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    sync_tree(partial)
    os.rename(partial, folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an index.

    Raises:
        ValueError: The folder holds no index, or one of another format.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(f"{folder} holds no index (no {MANIFEST}); make one: rft index build out={folder}")
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        is_known = manifest["format"] == FORMAT and manifest["fingerprint"] == _fingerprint(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}; build the index again") from error
    if not is_known:
        raise ValueError(f"{file} has another format, or was edited; build the index again with this version of rft")
    return manifest


def read_index(folder: Path) -> Index:
    """Read an index, and compare every file with its hash.

    Raises:
        ValueError: The folder holds no index, or a damaged one.
    """
    manifest = read_manifest(folder)
    for name, sha256 in manifest["sha256"].items():
        file = folder / name
        if not file.is_file() or _sha256(file) != sha256:
            raise ValueError(f"{file} is missing or has changed since the index was built; build the index again")
    with (folder / DOCUMENTS).open(encoding="utf-8") as lines:
        documents: list[Document] = [json.loads(line) for line in lines]
    with np.load(folder / POSTINGS, allow_pickle=False) as arrays:
        words = arrays["words"].tobytes().decode()
        postings = Postings(
            words={word: number for number, word in enumerate(words.split("\n"))} if words else {},
            starts=arrays["starts"],
            rows=arrays["rows"],
            weights=arrays["weights"],
            num_rows=len(documents),
        )
    vectors = np.load(folder / VECTORS, allow_pickle=False)
    return Index(documents=documents, vectors=vectors, postings=postings, manifest=manifest)


def fingerprint_of_documents(manifest: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the documents and the embedder's model and settings, without the vectors.

    Args:
        manifest: From `pack_index`.
    """
    return _fingerprint({**manifest, "sha256": {DOCUMENTS: manifest["sha256"][DOCUMENTS]}})


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of what a search depends on. A sentence model may move; `model` has its hash."""
    content = {name: manifest[name] for name in ("format", "model", "dimensions", "bm25", "sha256")}
    content["embedder"] = {key: value for key, value in manifest["embedder"].items() if key != "path"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
