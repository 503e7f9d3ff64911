"""A training run whose samplers, graders and learner are plain objects in this process."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rft.config.commands import load_training
from rft.data.splits import TaskSets
from rft.events import Emit
from rft.learning.checkpoints import new_checkpoint
from rft.run.parts import Parts
from rft.run.reporting.terminal import Terminal
from rft.run.training import Training
from rft.run_folder.recorder import Recorder
from rft.types import Adapter, GradedGroup, Policy, Publication, Sync, Task

BASE = Policy(version=0, fingerprint="base")
WORDS = (
    "experiment=quickstart",
    "sampler=fake",
    "learner=fake",
    "loop.steps=3",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=2",
    "loop.checkpoint_every_steps=2",
    "evaluation.every_steps=2",
    "logging=none",
    "audit=off",
)


async def _nothing() -> None:
    """Wait for nothing."""


class FakeParts:
    """Samplers, graders and a learner at once. A rollout's reward is its index: 0, 1, 0, 1."""

    def __init__(self, folder: Path, make_group: Callable[..., GradedGroup]) -> None:
        self.policy = BASE
        self.is_closed = False
        self.max_restarts = 0
        self.is_restarting = False
        self.num_saves = 0
        self.training_panel: Any = None
        """Grades the batches of training in place of this object."""
        self.grading: Callable[[], Awaitable[None]] = _nothing
        """Awaited before each grading of a batch."""
        self.learning: Callable[[int], None] = lambda step: None
        """Called with the number of each step that the learner begins."""
        self.step = 0
        self._folder = folder
        self._make_group = make_group

    def sample(self, tasks: Sequence[Task], **_: Any) -> Sequence[Task]:
        return tasks

    async def grade(self, tasks: Sequence[Task], rollouts: Any, *, rollouts_per_task: int) -> list[GradedGroup]:
        await self.grading()
        rewards = [float(index % 2) for index in range(rollouts_per_task)]
        return [replace(self._make_group(rewards, task.id, policy=self.policy), task=task) for task in tasks]

    async def load(self, publication: Publication) -> Sync:
        self.policy = publication.policy
        return Sync(policy=self.policy, proved=True, metrics={})

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        self.step += 1
        self.learning(self.step)
        await asyncio.sleep(0)
        return {"loss": self.step / 4}

    async def publish(self) -> Publication:
        policy = Policy(version=self.step, fingerprint=f"step {self.step}")
        return Publication(weights=Adapter(policy=policy, config={}, tensors=b""))

    async def history(self) -> list[Publication]:
        return [await self.publish()]

    async def weights(self) -> Adapter:
        return Adapter(policy=self.policy, config={}, tensors=b"")

    async def save(self) -> None:
        self.num_saves += 1
        with new_checkpoint(self._folder, step=self.step, keep=2) as aside:
            (aside / "state").mkdir()
            (aside / "state" / "step").write_text(str(self.step))

    @asynccontextmanager
    async def open(self, emit: Emit) -> AsyncIterator[Parts[Any]]:
        self.emit = emit
        try:
            yield Parts(self, self, self, training_panel=self.training_panel)  # type: ignore[arg-type]
        finally:
            self.is_closed = True


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all other work of these runs."""
    monkeypatch.setattr("rft.run_folder.plots.plot_rewards", lambda folder: folder / "plots" / "reward.png")


@pytest.fixture
def parts(tmp_path: Path, make_group: Callable[..., GradedGroup]) -> FakeParts:
    """The parts of `training`."""
    return FakeParts(tmp_path / "run", make_group)


@pytest.fixture
def printed() -> io.StringIO:
    """The output of `training`."""
    return io.StringIO()


@pytest.fixture
def training(
    tmp_path: Path,
    parts: FakeParts,
    printed: io.StringIO,
    make_task: Callable[..., Task],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Training]:
    """`training("loop.steps=4", last_step=2)`: a run in `tmp_path / "run"`. It writes no adapter."""
    monkeypatch.setattr("rft.run.training.save_weights", lambda folder, *_, **__: {"adapter": folder / "adapter"})

    def make(*words: str, user_sinks: Any = None, **options: Any) -> Training:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        tasks = TaskSets(
            train=[make_task(f"train {number}") for number in range(8)],
            validation=[make_task("validation 0"), make_task("validation 1")],
            test=[make_task("test 0")],
        )
        prepared: Any = SimpleNamespace(
            rows=None,
            grounded=None,
            environment=None,
            teachers=(),
            quantization=None,
            warnings=(),
            sinks=user_sinks or {},
            tasks=tasks,
            held_out=tasks.test,
            model_name="some/model",
            model=tmp_path,
            tokenizer=None,
        )
        run = load_training([*WORDS, *words], str(folder))
        parts.step = options.get("last_step", 0)
        return Training(
            run=run,
            prepared=prepared,
            parts=parts.open,
            sinks=[Terminal(Console(file=printed, width=200), folder)],
            **{"recorder": Recorder(folder), **options},
        )

    return make
