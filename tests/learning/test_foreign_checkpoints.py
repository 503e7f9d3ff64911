"""No pickle in a checkpoint of a stranger runs code when a learner resumes from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.learning.checkpoints import damage, seal
from rft.types import GradedGroup

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

READ = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
"""Pickles that Transformers writes, and reads when it resumes."""


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_no_pickle_of_a_checkpoint_runs_code(
    build: Callable[..., Any], group_for: Callable[..., GradedGroup], tmp_path: Path
) -> None:
    import torch

    learner = build()
    learner.learn([group_for(learner, [1.0, 0.0, 0.5, 0.0], off=0.1)])
    learner.save()
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    others = {file.name for file in checkpoint.iterdir() if file.suffix in (".pt", ".pth", ".bin")} - set(READ)
    ran = tmp_path / "code_ran"
    for name in (*READ, *sorted(others), "adapter_model.bin"):
        foreign = tmp_path / name / "checkpoint-1"
        shutil.copytree(checkpoint, foreign)
        if name == "adapter_model.bin":  # PEFT's older format, which a stranger can put in place of safetensors
            (foreign / "adapter_model.safetensors").unlink()
        torch.save({"state": Bomb(ran)}, foreign / name)
        seal(foreign, 1)
        assert damage(foreign) == []  # anyone can compute checksums
        refusal = None
        try:
            build(folder=f"resumed from {name}", resume_from=foreign).publish()
        except Exception as error:  # the libraries raise errors of many types
            refusal = error
        assert not ran.exists(), f"{name} ran code"
        assert (refusal is None) is (name in others), f"{name}: {refusal}"
