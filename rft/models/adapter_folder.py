"""Adapter folders in PEFT format: finds, reads and checks an adapter before any library loads it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from rft.errors import ModelError
from rft.models.adapter_tensors import not_finite
from rft.types import Adapter, Policy
from rft.wording import expectation, plural

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
"""The earlier format of PEFT."""
MAX_SHOWN_MODULES = 3
"""Maximum number of modules in a message."""

Rank = Annotated[int, Field(ge=1, strict=True)]


class _Config(BaseModel):
    """The part of PEFT's `adapter_config.json` that rft reads; PEFT checks the rest when it loads the adapter."""

    model_config = ConfigDict(extra="allow")

    peft_type: Literal["LORA"] = "LORA"
    base_model_name_or_path: str | None = None
    r: Rank
    lora_alpha: Annotated[float, Field(allow_inf_nan=False)]
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None


def find_adapter(path: Path) -> Path:
    """Return the adapter folder at a path: `adapter` of a run, or the folder itself, such as a checkpoint.

    Raises:
        ModelError: The path contains no adapter.
    """
    if not os.path.exists(path):  # unlike Path.exists, it does not raise for names that are too long
        raise _error(f"{path} does not exist; name a run folder or an adapter folder")
    folder = path / "adapter" if (path / "adapter").is_dir() else path
    if _is_upper_part(folder):
        run = folder.parent.parent
        raise _error(f"{path} holds only the upper one of two stacked adapters; use the adapter of the run: {run}")
    missing = [name for name in (CONFIG, TENSORS) if not (folder / name).is_file()]
    if not missing:
        return folder
    if missing == [TENSORS] and (folder / PICKLED).is_file():
        raise _error(
            f"{folder} has its weights in {PICKLED}, which may run code when it is loaded, so rft does not read it; "
            f"ask its author for {TENSORS}, or convert a file that you trust: "
            f"safetensors.torch.save_file(torch.load('{PICKLED}', weights_only=True), '{TENSORS}')"
        )
    if (model := whole_model(path)) is not None:
        raise _error(
            f"{path} trained all weights and has no adapter; use its model: model.path={model}, or start from it with "
            "start_mode=merge"
        )
    if os.path.isfile(path / "config.yaml"):
        raise _error(
            f"{path} has no result yet, because its run has not finished; continue it with resume={path}, or use one "
            f"of its checkpoints: {path}/checkpoints/checkpoint-<step>"
        )
    raise _error(f"{path} is neither a run folder nor an adapter folder: it has no {' and no '.join(missing)}")


def _is_upper_part(folder: Path) -> bool:
    """Whether a folder is a checkpoint of a run with `start_mode=stack`, which has the frozen adapter elsewhere."""
    checkpoints = Path(os.path.realpath(folder)).parent
    origin = checkpoints.parent / "start" / "parent.json"
    if checkpoints.name != "checkpoints" or not os.path.isfile(origin):
        return False
    try:
        return bool(json.loads(origin.read_text(encoding="utf-8"))["mode"] == "stack")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _error(f"{origin} is damaged, or rft did not write it; copy the run folder again") from error


def whole_model(path: Path) -> Path | None:
    """Return the `model` folder of a run that trained all weights; None for other paths."""
    model = path / "model"
    return model if os.path.isfile(model / "config.json") and not os.path.isdir(path / "adapter") else None


def load_adapter(path: Path) -> Adapter:
    """Read an adapter from its folder or from its run folder.

    Raises:
        ModelError: The path contains no adapter, or a file is damaged. The message names the file.
    """
    folder = find_adapter(path)
    config = _read_config(folder / CONFIG)
    _check_tensors(folder / TENSORS, {config["r"], *(config.get("rank_pattern") or {}).values()})
    tensors = (folder / TENSORS).read_bytes()
    if broken := not_finite(tensors):
        raise _error(
            f"{folder / TENSORS} has numbers that are not finite in {plural(len(broken), 'tensor')}, such as "
            f"{broken[0]}: its training diverged; use an earlier checkpoint"
        )
    # Version 1: the only version that the sampler receives.
    policy = Policy(version=1, fingerprint=hashlib.sha256(tensors).hexdigest()[:16])
    return Adapter(policy=policy, config=config, tensors=tensors)


def base_model_of(adapter: Adapter, path: Path) -> str:
    """Return the name or folder of an adapter's base model.

    Args:
        adapter: The adapter.
        path: Path of the adapter, for the message.

    Raises:
        ModelError: The adapter names no base model.
    """
    name = adapter.config.get("base_model_name_or_path")
    if not name:
        file = find_adapter(path) / CONFIG
        raise _error(f"{file} names no base model (base_model_name_or_path); set model.path=<folder or hub id>")
    return str(name)


def max_rank(adapter: Adapter) -> int:
    """Return the highest rank of an adapter's modules."""
    ranks: list[int] = [adapter.config["r"], *(adapter.config.get("rank_pattern") or {}).values()]
    return max(ranks)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _error(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise _error(f"{file} contains no JSON object; copy the adapter again")
    try:
        _Config.model_validate(config)
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {expectation(item)}" for item in error.errors())
        raise _error(f"{file} is not the configuration of a LoRA adapter in PEFT format: {details}") from error
    return config


def _check_tensors(file: Path, ranks: Collection[int]) -> None:
    """Refuse a truncated file, half a module's update, and other ranks than configured. Reads only the header."""
    try:
        with safe_open(str(file), framework="np") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _error(f"{file} is damaged: {error}; copy the adapter again") from error
    halves: dict[str, dict[str, int]] = {}
    for name, shape in shapes.items():
        module, _, role = name.rpartition(".lora_")
        if module and role[:1] in "AB" and len(shape) == 2:
            # A is [rank, in], B is [out, rank].
            halves.setdefault(module, {})[role[0]] = shape[0 if role[0] == "A" else 1]
    wrong = sorted(module for module, ranks in halves.items() if len(ranks) < 2 or ranks["A"] != ranks["B"])
    if wrong:
        some = ", ".join([*wrong[:MAX_SHOWN_MODULES], *(["..."] if len(wrong) > MAX_SHOWN_MODULES else [])])
        raise _error(f"{file} is damaged: lora_A and lora_B do not match in {some}; copy the adapter again")
    if others := {each["A"] for each in halves.values()} - set(ranks):
        configured, found = (", ".join(map(str, sorted(numbers))) for numbers in (ranks, others))
        raise _error(
            f"{file} has modules of rank {found}, and {CONFIG} configures {configured}; copy the adapter again"
        )


def _error(problem: str) -> ModelError:
    return ModelError("adapter", [problem])
