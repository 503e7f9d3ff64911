"""The settings of `rft index build` and `rft index check`."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from rft.config.embedders import Embedder
from rft.config.embedders.hashing import HashingEmbedderConfig
from rft.config.fields import Positive, Section


class IndexBuildConfig(Section):
    """An index to make from passages: `rft index build`."""

    documents: str
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file with a passage in each row: `text`, and `id` if it has one. Its
    other columns become metadata."""
    out: str
    """Folder for the index; it must not exist."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{text: body}`."""
    embedder: Embedder = HashingEmbedderConfig()
    """What turns passages and queries into vectors, such as `hashing`."""

    @field_validator("embedder", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class IndexCheckConfig(Section):
    """Rows that name their relevant passages, to measure an index on: `rft index check`."""

    index: str
    """Folder of the index."""
    data: str
    """A task file whose rows name the ids of their relevant passages."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    query: str | None = None
    """What to search for, like `retrieval.query`."""
    relevant: str = "relevant"
    """Column with the ids of the relevant passages."""
    top_k: Positive = 10
    """Passages that are searched for."""
