"""Writes the resulting adapter or model of a run, completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rft.models.origin import ORIGIN
from rft.reliability.durable import sync_folder, sync_tree, writing
from rft.types import Adapter, FullWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".index.json")
"""Suffixes of weight files and their indexes."""


def save_adapter(folder: Path, adapter: Adapter, tokenizer: PreTrainedTokenizerBase, model_card: str) -> None:
    """Write an adapter in PEFT format, completely or not at all. An existing adapter is replaced.

    Args:
        folder: Target folder.
        adapter: The adapter.
        tokenizer: The tokenizer of training, with its chat template; saved beside the adapter.
        model_card: The adapter's README.md.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    with whole_folder(folder) as unfinished:
        (unfinished / "adapter_config.json").write_text(json.dumps(adapter.config, indent=2) + "\n")
        (unfinished / "adapter_model.safetensors").write_bytes(adapter.tensors)
        save_tokenizer(unfinished, tokenizer)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


def save_model(
    folder: Path, weights: FullWeights, base_model: Path, tokenizer: PreTrainedTokenizerBase, model_card: str
) -> None:
    """Write a fully fine-tuned model in Hugging Face format, completely or not at all.

    Args:
        folder: Target folder; an existing model is replaced.
        weights: Every tensor of the model.
        base_model: Folder of the base model, whose configuration the model keeps.
        tokenizer: The tokenizer of training, with its chat template.
        model_card: The model's README.md.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    with whole_folder(folder) as unfinished:
        for file in base_model.iterdir():
            if file.is_file() and not file.name.endswith(WEIGHTS) and file.name not in ("README.md", ORIGIN):
                shutil.copy(file, unfinished)
        (unfinished / "model.safetensors").write_bytes(weights.tensors)
        save_tokenizer(unfinished, tokenizer)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a tokenizer and its chat template, so that `AutoTokenizer.from_pretrained(folder)` needs nothing else."""
    # Transformers would write these local loading options into tokenizer_config.json.
    for name in ("is_local", "local_files_only", "trust_remote_code"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(str(folder))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` at the end; on an error nothing changes.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    unfinished = folder.with_name(folder.name + ".tmp")
    replaced = folder.with_name(folder.name + ".old.tmp")
    with writing(folder):
        for remains in (unfinished, replaced):
            shutil.rmtree(remains, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            sync_tree(unfinished)
            if folder.exists():
                os.rename(folder, replaced)
            os.rename(unfinished, folder)
            sync_folder(folder.parent)
        finally:
            for remains in (unfinished, replaced):
                shutil.rmtree(remains, ignore_errors=True)
