"""The base model of a run with `start_mode=merge`: base model and adapter of the parent as one model.

The run folder keeps it in `start_model/`. The run is then an ordinary run on that model: the model has a fingerprint of
its own, and policy version 0 is the model itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.adapter_settings import START_MODEL
from rft.errors import ModelError
from rft.imports import prepare_bitsandbytes, require_packages
from rft.models.adapter_folder import CONFIG, TENSORS, whole_model
from rft.models.base_model import fingerprint
from rft.reliability.temporary import temporary_folder
from rft.run.base_models.start_adapter import Parent
from rft.run.inputs.prepare import Inputs
from rft.run_folder.recorder import MANIFEST, read_manifest
from rft.run_folder.result_folders import whole_folder
from rft.types import Adapter


def with_merged_start(run: RunConfig, inputs: Inputs, say: Callable[[str], None]) -> Inputs:
    """Write the base model of a run with `start_mode=merge`, unless the run folder has it already.

    Args:
        run: The configuration. The run folder is locked.
        inputs: Its inputs, with the base model of the parent.
        say: Receives progress and the proof of the merge.

    Returns:
        The inputs with that base model; unchanged for other runs.

    Raises:
        InstallError: torch or PEFT is not installed.
        ModelError: The two cannot be merged, or the folder holds another model than the one that the run began with.
        WriteError: The disk is full or cannot be written.
    """
    parent = inputs.parent
    if parent is None or parent.mode != "merge" or not run.learner.trains_a_model:
        return inputs
    run_folder = Path(run.output_dir).absolute()
    folder = run_folder / START_MODEL
    if run.resume is None or not (folder / "config.json").is_file():
        parent = _write(run, inputs, parent, folder, say)
    # With learner.base, the run began with the quantized form of the merged model.
    if run.resume is not None and run.learner.base is None and (run_folder / MANIFEST).is_file():
        _refuse_other_model(folder, read_manifest(run_folder)["base_model"]["fingerprint"])
    config = run.model_copy(update={"model": run.model.model_copy(update={"path": str(folder)})})
    return replace(inputs, config=config, model=folder, parent=parent, quantization=None)


def _write(run: RunConfig, inputs: Inputs, parent: Parent, folder: Path, say: Callable[[str], None]) -> Parent:
    """Write the model; return the parent with the facts of the merge."""
    facts: dict[str, Any] = {"base_model": {"path": run.model.path, "fingerprint": fingerprint(inputs.model)}}
    folder.parent.mkdir(parents=True, exist_ok=True)
    if parent.adapter is not None:
        say(f"merging the adapter of {run.start} into {inputs.model}")
        facts |= _merge(run, inputs, parent.adapter, folder, say)
    elif (model := whole_model(Path(run.start or ""))) is not None:
        with whole_folder(folder) as unfinished:
            shutil.copytree(model, unfinished, dirs_exist_ok=True)
    else:
        raise ModelError("start", [f"{folder} is gone, and start={run.start} as well; copy one of them again"])
    return replace(parent, origin={**parent.origin, "merged": facts})


def _merge(
    run: RunConfig, inputs: Inputs, adapter: Adapter, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Merge an adapter into the base model; return dtype and errors of the merged weights."""
    require_packages("start_mode=merge", "torch", "peft")
    prepare_bitsandbytes(is_used=run.learner.base is not None)
    from rft.run.base_models.merge import write_merged  # imports torch, which only a merge needs in the driver

    with temporary_folder("adapter") as source, whole_folder(folder) as unfinished:
        (source / CONFIG).write_text(json.dumps(dict(adapter.config)))
        (source / TENSORS).write_bytes(adapter.tensors)
        merged = write_merged(inputs.model, source, unfinished, dtype=run.model.dtype, tokenizer=inputs.tokenizer)
    for line in merged.lines():
        say(line)
    return {
        "dtype": merged.dtype,
        "mean_gap": merged.gap.mean,
        "mean_effect": merged.learned.mean,
        "is_blurred": merged.is_blurred,
    }


def _refuse_other_model(folder: Path, begun_with: str) -> None:
    now = fingerprint(folder)
    if now != begun_with:
        raise ModelError(
            "base model",
            [
                f"{folder} has the fingerprint {now}, and the run began with {begun_with}: the folder was changed, or "
                "the merge differs on this machine; copy it from the machine on which the run began"
            ],
        )
