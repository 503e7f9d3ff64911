"""Facts of a run folder about the weights that it wrote. The folder may be damaged, or come from a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rft.errors import ModelError
from rft.run_folder.recorder import MANIFEST, METRICS, read_manifest, read_metrics


def step_of_weights(folder: Path) -> dict[str, int]:
    """Return the step that led to each fingerprint.

    Args:
        folder: The run folder.

    Raises:
        ModelError: metrics.jsonl has another format.
    """
    try:
        return {str(line["policy"]["fingerprint"]): int(line["step"]) for line in read_metrics(folder)}
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / METRICS) from error


def manifest_with_base(folder: Path) -> dict[str, Any] | None:
    """Return manifest.json, which has the fingerprint of the base model; None without the file.

    Args:
        folder: The run folder.

    Raises:
        ModelError: The file has another format.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = read_manifest(folder)
        is_whole = isinstance(manifest["base_model"]["fingerprint"], str)
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(folder / MANIFEST) from error
    if not is_whole:
        raise _damaged(folder / MANIFEST)
    return manifest


def base_fingerprint(folder: Path) -> str | None:
    """Return the fingerprint of a run's base model; None without a manifest. Argument and errors like above."""
    manifest = manifest_with_base(folder)
    return None if manifest is None else str(manifest["base_model"]["fingerprint"])


def _damaged(file: Path) -> ModelError:
    return ModelError("run", [f"{file} is damaged, or rft did not write it; copy the run folder again"])
