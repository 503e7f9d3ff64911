"""A run folder, and an empty place for its copy."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from rft.storage import Place


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder before its first checkpoint."""
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "metrics.jsonl").write_text('{"step": 0}\n')
    (folder / "tensorboard" / "events.1").write_text("events")
    return folder


@pytest.fixture
def save(run: Path) -> Callable[[int], None]:
    """`save(20)` writes a line of metrics and a checkpoint."""

    def write(step: int) -> None:
        folder = run / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "adapter.safetensors").write_text(f"weights of {step}")
        (folder / "complete.json").write_text(json.dumps({"step": step}))
        (folder / "optimizer.pt").write_text(f"moments of {step}")
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step}) + "\n")

    return write


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where the copy goes."""
    yield Place("memory://bucket/runs/a" if request.param == "memory" else f"file://{tmp_path}/there/a")
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]
