"""Vectors of a sentence model on disk, by Transformers: the mean of its token vectors, with length 1."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rft.config.embedders.folder import FolderEmbedderConfig
from rft.retrieval.embedders.protocol import Vectors

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "config.json", "tokenizer*", "vocab*")
"""Files of a model that its vectors depend on."""


class FolderEmbedder:
    """Runs a sentence model on the CPU. Implements `Embedder`.

    A batch rounds differently for other neighbours. Queries are therefore embedded one at a time, so that a query has
    the same vector in every command.
    """

    def __init__(self, config: FolderEmbedderConfig) -> None:
        self._config = config
        folder = Path(config.path).expanduser()
        if not (folder / "config.json").is_file():
            raise ValueError(f"embedder.path={config.path}: holds no model (no config.json)")
        # The name stays the same if the folder moves.
        files = sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)})
        content = hashlib.sha256(repr(config.model_dump(exclude={"path", "batch_texts"})).encode())
        for file in files:
            content.update(hashlib.sha256(file.read_bytes()).digest())
        self.model = f"folder-{content.hexdigest()[:16]}"
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(self._folder, local_files_only=True).hidden_size)

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of passages."""
        size = self._config.batch_texts
        named = [f"{self._config.document_prefix}{text}" for text in texts]
        batches = [named[start : start + size] for start in range(0, len(named), size)]
        return await asyncio.to_thread(self._embed_all, batches)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the `[n, d]` float32 vectors of queries."""
        return await asyncio.to_thread(self._embed_all, [[f"{self._config.query_prefix}{text}"] for text in texts])

    async def close(self) -> None:
        """Free the model."""
        self._loaded = None

    def _embed_all(self, batches: Sequence[Sequence[str]]) -> Vectors:
        empty = np.zeros((0, self.dimensions), np.float32)
        return np.concatenate([empty, *(self._embed(batch) for batch in batches)])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokenizer, model = self._load()
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._config.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state.float()
            counts = tokens["attention_mask"].unsqueeze(-1).float()
            means = (states * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
            vectors: Vectors = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            model = AutoModel.from_pretrained(self._folder, local_files_only=True).eval()
            self._loaded = (tokenizer, model)
        return self._loaded
