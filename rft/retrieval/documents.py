"""Reads passages from a file, and makes a local index of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rft.config.embedders.base import EmbedderConfig
from rft.config.index import IndexBuildConfig
from rft.data.files import Flaw
from rft.data.messages import BadRow
from rft.data.sources import read_rows
from rft.data.tasks import refuse_flaws, renamed
from rft.errors import DataError
from rft.retrieval.bm25 import make_postings
from rft.retrieval.build import open_embedder
from rft.retrieval.index_folder import Document, Index, fingerprint_of_documents, pack_index, write_index

TITLE = "documents"
"""Title of what is wrong with them."""


async def build_index(config: IndexBuildConfig) -> dict[str, Any]:
    """Make an index in a folder; return its manifest.

    Raises:
        DataError: Contains every flaw of the documents; or the folder exists.
        ValueError: The embedder's settings cannot work.
        StoreFault: The embedder cannot be reached.
    """
    folder = Path(config.out).expanduser()
    if folder.exists():
        raise DataError(TITLE, [f"out={config.out}: exists; choose another folder, or remove it"])
    documents = read_documents(config.documents, config.columns)
    _, files, manifest = await _made(documents, config.embedder, config.documents)
    write_index(folder, files, manifest)
    return manifest


async def index_in_memory(source: str, embedder: EmbedderConfig, *, key: str) -> Index:
    """Return the index that `rft index build` would make of a file, without a folder.

    Its fingerprint is of the documents and the embedder's model and settings. The vectors are made anew in each
    command, and those of an API or of another machine differ in their last digits.

    Args:
        source: The file; see `rft.data.sources.read_rows`.
        embedder: The settings of the embedder.
        key: The configuration key that names the file, for messages.

    Raises:
        DataError: Contains every flaw of the documents.
        ValueError: The embedder's settings cannot work.
        StoreFault: The embedder cannot be reached.
    """
    documents = await asyncio.to_thread(read_documents, source, {}, key=key)
    index, _, manifest = await _made(documents, embedder, source)
    return replace(index, manifest={**manifest, "fingerprint": fingerprint_of_documents(manifest)})


async def _made(
    documents: list[Document], settings: EmbedderConfig, source: str
) -> tuple[Index, dict[str, bytes], dict[str, Any]]:
    """Return an index, its files and its manifest."""
    texts = [document["text"] for document in documents]
    embedder = open_embedder(settings)
    try:
        vectors = await embedder.embed_documents(texts)
        model = embedder.model
    finally:
        await embedder.close()
    postings = await asyncio.to_thread(make_postings, texts)
    files, manifest = await asyncio.to_thread(
        pack_index, documents, vectors, postings, model=model, embedder=settings.model_dump(), source=source
    )
    return Index(documents=documents, vectors=vectors, postings=postings, manifest=manifest), files, manifest


def read_documents(source: str, columns: dict[str, str], *, key: str = "documents") -> list[Document]:
    """Read passages: `text`, an `id` (or else the number of the row, from 1), and metadata.

    Args:
        source: See `rft.data.sources.read_rows`.
        columns: Maps rft's column names to those of the source.
        key: The configuration key that names the source, for messages.

    Raises:
        DataError: Contains every flaw of the file.
    """
    documents: list[Document] = []
    flaws: list[Flaw] = []
    seen: dict[str, str] = {}
    for number, row in enumerate(read_rows(source, key=key), start=1):
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        try:
            document = _document(renamed(row.content, columns), number)
            if first := seen.get(document["id"]):
                raise BadRow(f'{first} has the same id "{document["id"]}"; make ids unique')
            seen[document["id"]] = row.where
            documents.append(document)
        except BadRow as error:
            flaws.append(Flaw(row.where, str(error)))
    refuse_flaws(flaws, source, title=TITLE)
    if not documents:
        raise DataError(TITLE, [f"{key}={source} is empty: it contains no passage"])
    return documents


def _document(content: dict[str, Any], number: int) -> Document:
    text, own = content.get("text"), content.get("id")
    if not isinstance(text, str) or not text.strip():
        names = ", ".join(content) or "no columns"
        raise BadRow(f'no "text"; it has: {names} (rft index build maps one with columns.text=<column>)')
    if own is not None and (isinstance(own, bool) or not isinstance(own, (str, int)) or own == ""):
        raise BadRow(f'"id" must be a text or a whole number, not {json.dumps(own, default=str)}')
    metadata = {name: value for name, value in content.items() if name not in ("id", "text") and value is not None}
    document: Document = {"id": str(number if own is None else own), "text": text, "metadata": metadata}
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise BadRow(f"cannot be kept as JSON: {error}; save dates as texts") from error
    return document
