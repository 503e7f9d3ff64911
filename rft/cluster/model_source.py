"""A model that the nodes of a run need besides the base model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """The model of a teacher, which lies beside the base model on a node, under its own fingerprint.

    Example:
        ModelSource(path="Qwen/Qwen2.5-7B-Instruct", folder=Path("/models/7b"), fingerprint="6c1d...")
    """

    path: str
    """Its path in the configuration."""
    folder: Path
    """Its folder on this machine."""
    fingerprint: str
    """Its fingerprint."""
