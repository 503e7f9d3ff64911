"""Stages of fakes in this process, each trained like `rft train` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from rft.config import RunConfig
from rft.data.splits import TaskSets
from rft.learning.fake import FakeLearner
from rft.run.base_models.start_adapter import read_parent
from rft.run.inputs.prepare import Prepared
from rft.run.open_folder import open_recorder, start_of
from rft.run.training import Training
from rft.run_folder.result_folders import save_adapter
from rft.run_folder.results import nothing_left_to_do
from rft.run_folder.run_lock import RunLock
from rft.types import Adapter, GradedGroup, Publication, Task
from tests.run.conftest import BASE, WORDS, FakeParts

SHARED = (*(word for word in WORDS if not word.startswith("loop.steps=")), "loop.checkpoint_every_steps=1")
STAGES = (*SHARED, "stages.one.loop.steps=2", "stages.two.loop.steps=3")


class Tokenizer:
    """Stands for the tokenizer that is saved beside an adapter."""

    init_kwargs: ClassVar[dict[str, Any]] = {}

    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokenizer.json").touch()


class StageParts(FakeParts):
    """The parts of a stage, with rft's fake learner."""

    def __init__(self, folder: Path, make_group: Callable[..., GradedGroup], learner: FakeLearner) -> None:
        super().__init__(folder, make_group)
        self.learner = learner
        start = learner.start_publication()
        self.policy = BASE if start is None else start.policy

    async def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        self.learning(self.learner.steps_done + 1)
        return self.learner.learn(groups)

    async def publish(self) -> Publication:
        return self.learner.publish()

    async def history(self) -> list[Publication]:
        return self.learner.history()

    async def weights(self) -> Adapter:
        weights = self.learner.publish().weights
        assert isinstance(weights, Adapter)
        return weights

    async def save(self) -> None:
        self.learner.save()


class Trainer:
    """Trains a stage like `rft train`, in this process."""

    def __init__(self, make_group: Callable[..., GradedGroup], make_task: Callable[..., Task], make_spec: Any) -> None:
        self.make_group = make_group
        self.make_spec = make_spec
        self.tasks = TaskSets(
            train=[make_task(f"train {number}") for number in range(4)],
            validation=[],
            test=[make_task("test 0"), make_task("test 1")],
        )
        self.begun: list[str] = []
        """The stages that were trained, and the step from which each began."""
        self.learning: Callable[[str, int], None] = lambda stage, step: None
        """Called with the folder's name and the number of each step."""

    def __call__(self, run: RunConfig, command: Sequence[str]) -> int:
        folder = Path(run.output_dir)
        with RunLock(folder):
            start = start_of(run, say=lambda _: None, warn=lambda _: None)
            self.begun.append(f"{folder.name} from {start.last_step or 0}")
            if start.last_step and nothing_left_to_do(run, start.last_step):
                return 0
            prepared = self.prepared(run)
            parts = self.parts(run, prepared, start.checkpoint)
            training = Training(
                run=run,
                prepared=prepared,
                parts=parts.open,
                recorder=open_recorder(run, prepared, command, start.last_step),
                last_step=start.last_step or 0,
            )
            return asyncio.run(training.train())

    def parts(self, run: RunConfig, prepared: Prepared, checkpoint: Path | None) -> StageParts:
        folder = Path(run.output_dir)
        parent = prepared.parent and prepared.parent.adapter
        spec = self.make_spec(folder, steps=run.loop.steps, start=parent, resume_from=checkpoint)
        parts = StageParts(folder, self.make_group, FakeLearner(spec))
        parts.learning = lambda step: self.learning(folder.name, step)
        return parts

    def prepared(self, run: RunConfig) -> Prepared:
        renderer: Any = SimpleNamespace(template_sha256=None, shots=None)
        tokenizer: Any = Tokenizer()
        return Prepared(
            model=Path("nowhere"),
            model_name="some/model",
            base=BASE,
            context_tokens=64,
            tokenizer=tokenizer,
            parent=read_parent(run),
            renderer=renderer,
            tasks=self.tasks,
            num_long_prompts=0,
            longest_prompt_tokens=1,
            graders=(),
            sinks={},
        )


@pytest.fixture
def trainer(
    make_group: Callable[..., GradedGroup],
    make_task: Callable[..., Task],
    make_learner_spec: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Trainer:
    def save_weights(folder: Path, _: Any, __: Any, weights: Any, *, tokenizer: Any, **___: Any) -> dict[str, Path]:
        save_adapter(folder / "adapter", weights, tokenizer, "")
        return {"adapter": folder / "adapter"}

    monkeypatch.setattr("rft.run.training.save_weights", save_weights)
    monkeypatch.setattr("rft.run_folder.plots.plot_rewards", lambda folder: folder / "plots" / "reward.png")
    monkeypatch.setattr("rft.pipeline.runner.plan_training", lambda run, console: None)
    monkeypatch.setattr("rft.pipeline.runner.require_packages_here", lambda run: None)
    return Trainer(make_group, make_task, make_learner_spec)
