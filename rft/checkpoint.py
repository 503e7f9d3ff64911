"""Checkpoints and results on disk: which checkpoint a run goes on from, and the adapter or model that it leaves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rft.errors import ModelError, OutputError
from rft.learning.spec import COMPLETE
from rft.recorder import writing
from rft.types import Adapter, FullWeights, Policy

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".index.json")
"""How files with a model's weights, or lists of them, end."""


def last_checkpoint(run_folder: Path) -> tuple[Path, int]:
    """The newest whole checkpoint of a run, and its step.

    Raises:
        OutputError: The folder holds no run, or the run has no whole checkpoint.
    """
    if not (run_folder / "config.yaml").exists():
        raise OutputError("resume", [f"resume={run_folder}: there is no run in that folder (no config.yaml)"])
    whole = [
        (json.loads((folder / COMPLETE).read_text())["step"], folder)
        for folder in (run_folder / "checkpoints").glob("checkpoint-*")
        if (folder / COMPLETE).exists()
    ]
    if not whole:
        raise OutputError(
            "resume", [f"resume={run_folder}: the run has no whole checkpoint to go on from; start it anew"]
        )
    step, folder = max(whole)
    return folder, step


def save_adapter(folder: Path, adapter: Adapter, model_card: str) -> None:
    """Write an adapter in PEFT's format, whole or not at all; one that is there already is replaced.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    with _whole(folder) as unfinished:
        (unfinished / "adapter_config.json").write_text(json.dumps(adapter.config, indent=2) + "\n")
        (unfinished / "adapter_model.safetensors").write_bytes(adapter.tensors)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


def save_model(folder: Path, weights: FullWeights, base_model: Path, model_card: str) -> None:
    """Write a fully fine-tuned model in Hugging Face's format, whole or not at all.

    Args:
        folder: Where to; a model that is there already is replaced.
        weights: Every tensor of the model.
        base_model: Folder of the base model, whose configuration and tokenizer the model keeps.
        model_card: Its README.md.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    with _whole(folder) as unfinished:
        for file in base_model.iterdir():
            if file.is_file() and not file.name.endswith(WEIGHTS) and file.name != "README.md":
                shutil.copy(file, unfinished)
        (unfinished / "model.safetensors").write_bytes(weights.tensors)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `folder`."""
    unfinished = folder.with_name(folder.name + ".tmp")
    with writing(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def load_adapter(path: Path) -> Adapter:
    """Read an adapter from its folder, or from the run folder that holds it.

    Raises:
        ModelError: There is no adapter.
    """
    folder = path / "adapter" if (path / "adapter").is_dir() else path
    config_file, tensors_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    missing = [file.name for file in (config_file, tensors_file) if not file.is_file()]
    if missing:
        raise ModelError(
            "adapter", [f"{path} is neither a run folder nor an adapter folder: no {' and no '.join(missing)} there"]
        )
    try:
        config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError("adapter", [f"{config_file} is no JSON: {error}"]) from error
    tensors = tensors_file.read_bytes()
    # Version 1: the first and only one that the sampler gets.
    policy = Policy(version=1, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    return Adapter(policy=policy, config=config, tensors=tensors)
