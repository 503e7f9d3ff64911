"""The base model of a run with `learner.base`: the quantized form of another model, as a folder of its own.

The run folder keeps it in `quantized_base/`. The run is then an ordinary run on that model: the model has a fingerprint
of its own, samplers serve it, and adapters belong to it. The learner alone keeps its linear layers quantized. A model
that is quantized already is used where it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.errors import ModelError
from rft.imports import prepare_bitsandbytes, require_packages
from rft.models.base_model import fingerprint
from rft.models.quantized_folder import LABELS, QUANTIZATION, QUANTIZED_BASE, Method, Quantization, read_quantization
from rft.run.base_models.start_adapter import parent_problems
from rft.run.inputs.prepare import Inputs
from rft.run_folder.recorder import MANIFEST, make_private, read_manifest
from rft.run_folder.result_folders import whole_folder


def with_quantized_base(run: RunConfig, inputs: Inputs, say: Callable[[str], None]) -> Inputs:
    """Write the base model of a run with `learner.base`, unless it exists already.

    Args:
        run: The configuration. The run folder is locked.
        inputs: Its inputs, with the original model.
        say: Receives progress, and the effect of the quantization.

    Returns:
        The inputs with the quantized model; unchanged for other runs.

    Raises:
        InstallError: bitsandbytes or torch is not installed.
        ModelError: The model cannot be quantized, or the run began with another one.
        WriteError: The disk is full or cannot be written.
    """
    method = run.learner.base
    if method is None or inputs.quantization is not None:
        return inputs
    run_folder = Path(run.output_dir).absolute()
    folder = run_folder / QUANTIZED_BASE
    source_fingerprint = fingerprint(inputs.model)
    made = read_quantization(folder)
    if made is None or (made.method, made.source_fingerprint) != (method, source_fingerprint):
        made = _write(inputs, folder, method, source_fingerprint, say)
    own_fingerprint = fingerprint(folder)
    if run.resume is not None and (run_folder / MANIFEST).is_file():
        _refuse_other_model(folder, own_fingerprint, read_manifest(run_folder)["base_model"], made.library)
    parent = inputs.parent if inputs.parent and inputs.parent.version_0 else None
    if parent is not None and (problems := parent_problems(parent, folder, own_fingerprint, run.sampler)):
        raise ModelError("start", problems)
    model = inputs.config.model.model_copy(update={"path": str(folder)})
    config = inputs.config.model_copy(update={"model": model})
    return replace(inputs, config=config, model=folder, quantization=made)


def _refuse_other_model(folder: Path, own_fingerprint: str, begun_with: Mapping[str, Any], library: str) -> None:
    if own_fingerprint == begun_with["fingerprint"]:
        return
    raise ModelError(
        "base model",
        [
            f"{folder} has the fingerprint {own_fingerprint}, and the run began with {begun_with['fingerprint']}: the "
            f"original model or the folder was changed, or {library} quantizes otherwise than "
            f"{begun_with['quantized']['library']} on the first machine; copy the folder from there"
        ],
    )


def _write(
    inputs: Inputs, folder: Path, method: Method, source_fingerprint: str, say: Callable[[str], None]
) -> Quantization:
    prepare_bitsandbytes(is_used=True)
    require_packages(f"learner.base={method}", "torch", "accelerate", "peft", "bitsandbytes")
    from rft.run.base_models.quantize import (
        write_quantized,  # imports torch and bitsandbytes, which only this needs in the driver
    )

    path = inputs.config.model.path or ""
    say(f"quantizing {inputs.model} to {LABELS[method]}, into {folder}")
    make_private(folder.parent)
    with whole_folder(folder) as unfinished:
        effect = write_quantized(inputs.model, unfinished, method=method, tokenizer=inputs.tokenizer)
        made = Quantization(
            method=method,
            source=str(Path(path).resolve()) if os.path.exists(path) else path,  # a hub id, or embedded:tiny
            source_fingerprint=source_fingerprint,
            library=f"bitsandbytes {metadata.version('bitsandbytes')}",
            mean_gap=effect.mean,
        )
        (unfinished / QUANTIZATION).write_text(made.model_dump_json(indent=2) + "\n", encoding="utf-8")
    say(f"{LABELS[method]} changes the model's log-probabilities by {effect}, on text that the model sampled")
    return made
