"""A sentence model on disk."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.embedders.base import EmbedderConfig
from rft.config.fields import Positive


class FolderEmbedderConfig(EmbedderConfig):
    """A sentence model such as MiniLM, loaded by Transformers; its token vectors are averaged."""

    embedder_class: ClassVar[str] = "rft.retrieval.embedders.folder:FolderEmbedder"

    kind: Literal["folder"] = "folder"
    path: str
    """Folder of the model."""
    max_tokens: Positive = 256
    """Tokens of a text that count; the rest is cut."""
    batch_texts: Positive = 32
    """Texts in a batch."""
    query_prefix: str = ""
    """Text before each query, such as `query: `, which some models want."""
    document_prefix: str = ""
    """Text before each passage, such as `passage: `."""
