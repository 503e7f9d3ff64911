"""Checks the weights of a model by the headers of its safetensors files, without torch and without reading tensors.

A safetensors file consists of 8 bytes with the length of the header, the header (JSON: name to dtype, shape and
offsets), and the tensors (https://huggingface.co/docs/safetensors). The header therefore determines the file size.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
"""Limit of the format."""
MAX_VALUES_PER_BYTE = 2
"""The smallest types of the format have 4 bits."""

_AGAIN = "copy or download it again"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint.

    Example:
        Tensor(dtype="BF16", shape=(896, 896))
    """

    dtype: str
    """Name in the format: F32, BF16, F16, I32, ..."""
    shape: tuple[int, ...]
    """Size of each dimension."""

    @property
    def num_values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in a model's folder.

    Example:
        Weights(tensors={"lm_head.weight": Tensor("F32", (128, 64))}, problems=())
    """

    tensors: Mapping[str, Tensor]
    """Tensors by their names in the checkpoint."""
    problems: tuple[str, ...]
    """Problems of the files, one sentence each; empty if the files are valid."""


def linear_modules(tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """Return the matrices that an adapter can train, by the last name of their module, such as `q_proj`.

    Excludes embeddings, the output layer, and experts of a mixture, which Transformers keeps in one tensor.
    """
    modules: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        if is_linear(name, tensor):
            modules.setdefault(name.split(".")[-2], []).append(tensor)
    return modules


def is_linear(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a matrix that an adapter can train, as in `linear_modules`."""
    module, _, leaf = name.rpartition(".")
    last = module.rpartition(".")[2]
    is_embedding = "embed" in last or last in ("wte", "wpe", "lm_head")
    return leaf == "weight" and len(tensor.shape) == 2 and bool(last) and not is_embedding and ".experts." not in module


def read_weights(folder: Path) -> Weights:
    """Read the headers of a model's safetensors files, and compare them with the file sizes.

    Args:
        folder: A folder with an index and its files, or with any `*.safetensors`.
    """
    index = _read_index(folder / INDEX)
    if isinstance(index, str):
        return Weights({}, (index,))
    existing = sorted(file.name for file in folder.glob("*.safetensors"))
    names = sorted(set(index.values())) if index else existing
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    if absent_files := sorted(set(names).difference(existing)):
        shown = ", ".join([*absent_files[:5], *(["..."] if len(absent_files) > 5 else [])])
        problems.append(f"{len(absent_files)} of {len(names)} weight files are missing: {shown}")
    for name in sorted(set(names).intersection(existing)):
        content = _read_header(folder / name)
        if isinstance(content, str):
            problems.append(f"{name} {content}")
            continue
        tensors |= content
        if absent := [tensor for tensor, file in index.items() if file == name and tensor not in content]:
            problems.append(
                f"{name} lacks {len(absent)} tensors that {INDEX} lists, such as {absent[0]}: the folder mixes files "
                f"of two models; download all files again"
            )
    return Weights(tensors, tuple(problems))


def mapped(path: Path) -> memoryview:
    """Return a file's content as a read-only view, without reading it. The view outlives the file's name."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read_index(path: Path) -> dict[str, str] | str:
    """Return the file of each tensor (empty without an index), or the problem of the index."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path.name} cannot be read: {error}; {_AGAIN}"
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        return f'{path.name} has no "weight_map" from tensors to files; {_AGAIN}'
    if outside := [name for name in weight_map.values() if Path(name).name != name]:
        return f"{path.name} refers to a file outside the folder: {outside[0]}"
    return weight_map


def _read_header(path: Path) -> dict[str, Tensor] | str:
    """Return the tensors of a file by name, or its problem, such as `is truncated: ...`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if (start + file.read(32)).startswith(b"version https://git-lfs"):
                return "is a Git LFS pointer, not the weights; run git lfs pull in the folder"
            length = int.from_bytes(start, "little")
            if len(start) < 8 or size < 8 + length or length > MAX_HEADER_BYTES:
                return f"is truncated or not a safetensors file: it has {size} bytes and an incomplete header; {_AGAIN}"
            file.seek(8)
            header = json.loads(file.read(length))
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError) as error:
        return f"has a header that is not JSON ({error}); {_AGAIN}"
    try:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: _tensor(entry) for name, entry in entries.items()}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        return f"has a header in another format ({type(error).__name__}: {error}); {_AGAIN}"
    if size != end:
        return f"is truncated: it has {size} of the {end} bytes that its header requires; {_AGAIN}"
    return tensors


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    """Return a tensor of a header. Raises ValueError if its bytes cannot hold it."""
    (begin, end), shape = entry["data_offsets"], tuple(entry["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise ValueError(f"a size is no natural number: {entry}")
    tensor = Tensor(str(entry["dtype"]), shape)
    if tensor.num_values > MAX_VALUES_PER_BYTE * (end - begin):
        raise ValueError(f"{end - begin} bytes cannot hold {tensor.dtype} values of shape {list(shape)}")
    return tensor
