"""The weights of a model on disk, by the headers of their safetensors files: no tensor is read, and no torch is needed.

A safetensors file is 8 bytes with the length of its header, the header (JSON: name to dtype, shape and place), and the
tensors one after the other (https://huggingface.co/docs/safetensors). So the header says how long the file must be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""What the format allows."""

_AGAIN = "copy or download it again"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint.

    Example:
        Tensor(dtype="BF16", shape=(896, 896))
    """

    dtype: str
    """In the format's words: F32, BF16, F16, I32, ..."""
    shape: tuple[int, ...]
    """Its sizes."""

    @property
    def num_values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a model's folder holds of weights.

    Example:
        Weights(tensors={"lm_head.weight": Tensor("F32", (128, 64))}, problems=())
    """

    tensors: Mapping[str, Tensor]
    """By name in the checkpoint."""
    problems: tuple[str, ...]
    """What is wrong with the files, one sentence each, the file named; empty when nothing is."""


def linear_modules(tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The matrices that an adapter can be trained on, by the last name of their module, as `q_proj`.

    Left out are the embeddings, the output layer, and the experts of a mixture, which Transformers keeps in one tensor.
    """
    found: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        own = module.rpartition(".")[2]
        is_embedding = "embed" in own or own in ("wte", "wpe", "lm_head")
        if leaf == "weight" and len(tensor.shape) == 2 and not is_embedding and ".experts." not in module:
            found.setdefault(own, []).append(tensor)
    return found


def read_weights(folder: Path) -> Weights:
    """Read the headers of the safetensors files that a model consists of, and compare them with the files' lengths.

    Args:
        folder: With an index and the files that it names, or else with any `*.safetensors`.
    """
    index = _read_index(folder / INDEX)
    if isinstance(index, str):
        return Weights({}, (index,))
    there = sorted(file.name for file in folder.glob("*.safetensors"))
    names = sorted(set(index.values())) if index else there
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    if absent_files := sorted(set(names).difference(there)):
        shown = ", ".join([*absent_files[:5], *(["..."] if len(absent_files) > 5 else [])])
        problems.append(f"of {len(names)} files of weights, {len(absent_files)} are missing: {shown}")
    for name in sorted(set(names).intersection(there)):
        content = _read_header(folder / name)
        if isinstance(content, str):
            problems.append(f"{name} {content}")
            continue
        tensors |= content
        if absent := [tensor for tensor, file in index.items() if file == name and tensor not in content]:
            problems.append(
                f"{name} lacks {len(absent)} tensors that {INDEX} says it holds, as {absent[0]}: files of two models "
                f"are mixed; download all of them again"
            )
    return Weights(tensors, tuple(problems))


def _read_index(path: Path) -> dict[str, str] | str:
    """Tensor to file; empty where there is no index; what is wrong with it."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read: {error}; {_AGAIN}"
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        return f'{path.name} has no "weight_map" from tensors to files; {_AGAIN}'
    if outside := [name for name in weight_map.values() if Path(name).name != name]:
        return f"{path.name} names a file outside of the folder: {outside[0]}"
    return weight_map


def _read_header(path: Path) -> dict[str, Tensor] | str:
    """The tensors of one file by name, or what is wrong with it, as `is torn: ...`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if (start + file.read(32)).startswith(b"version https://git-lfs"):
                return "is a Git LFS pointer, not the weights; run git lfs pull in the folder"
            length = int.from_bytes(start, "little")
            if len(start) < 8 or size < 8 + length or length > MAX_HEADER_BYTES:
                return f"is torn or no safetensors file: it has {size} bytes, and its header is not whole; {_AGAIN}"
            file.seek(8)
            header = json.loads(file.read(length))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        return f"has a header that is no JSON ({error}); {_AGAIN}"
    try:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: _tensor(entry) for name, entry in entries.items()}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        return f"has a header in another format ({type(error).__name__}: {error}); {_AGAIN}"
    if size != end:
        return f"is torn: it has {size} of the {end} bytes that its header speaks of; {_AGAIN}"
    return tensors


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    return Tensor(str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))
