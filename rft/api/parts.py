"""`rft.parts`: the parts of a training run, for your own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rft.api.calls import configuration, make_console
from rft.batches import Panel, Sampler, TaskOrder
from rft.cluster import ray_ahead_for, refuse_early
from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.commands import load_training
from rft.config.epochs import with_steps
from rft.config.overrides import Overrides, to_words
from rft.data.splits import TaskSets
from rft.errors import ConfigError
from rft.run.base_models.merged_start import with_merged_start
from rft.run.base_models.quantized_base import with_quantized_base
from rft.run.inputs.prepare import read_inputs, render_prompts
from rft.run.open_folder import open_recorder
from rft.run.task_order import task_order
from rft.run_folder.recorder import Recorder
from rft.terminal.progress import Progress

if TYPE_CHECKING:
    from rft.run.recovery import RecoveringLearner


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Parts:
    """The parts of a training run, started.

    Example:
        Parts(sampler=RenewingSampler(...), panel=Panel(...), learner=RecoveringLearner(...), tasks=TaskSets(...), ...)
    """

    sampler: Sampler
    """Samples completions under one policy. `load` brings a policy to every engine and proves that each serves it."""
    panel: Panel
    """Grades completions while others are sampled; with learner=distill, the teacher scores them."""
    learner: RecoveringLearner
    """Takes optimizer steps, publishes its policy, and saves checkpoints."""
    tasks: TaskSets
    """The training, validation and test tasks."""
    order: TaskOrder
    """`of_step(step)` returns the tasks that `rft.train` would sample in a step."""
    recorder: Recorder
    """Writes metrics.jsonl and rollouts.jsonl of the run folder, so that `rft.open_run` reads them."""
    config: RunConfig
    """The configuration."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.recorder.folder

    def __repr__(self) -> str:
        return f"<rft.Parts {self.folder}>"


@asynccontextmanager
async def parts(*overrides: Overrides, quiet: bool = False) -> AsyncIterator[Parts]:
    """Start the sampler, the panel and the learner of a training run; close them at the end of the block.

    The learner takes `loop.steps` steps of `loop.prompts_per_step` groups, each with `loop.completions_per_prompt`
    rollouts. The run folder is new.

    Args:
        overrides: As for `rft.train`, except `resume`.
        quiet: Print nothing; otherwise warnings and the phases of the start are printed.

    Raises:
        ConfigError: With every problem of the configuration.
        InstallError: A package is missing that an extra of rft installs.
        UsageError: With everything that is wrong with the model, the tasks, the graders and the run folder.
        SyncError: A policy did not reach every engine, or the proof failed.
        RftError: A part failed.

    Example:
        async with rft.parts("experiment=quickstart", "loop.steps=3") as parts:
            tasks = parts.order.of_step(1)
            rollouts = parts.sampler.sample(tasks, completions_per_task=8, temperature=1.0, purpose="train", step=1)
            groups = await parts.panel.grade(tasks, rollouts, rollouts_per_task=8)
            await parts.learner.learn(groups)
            sync = await parts.sampler.load(await parts.learner.publish())
    """
    config = configuration(load_training, overrides)
    if config.resume is not None:
        raise ConfigError("configuration", [f"resume={config.resume}: rft.parts starts a new run; use rft.train"])
    require_packages_here(config)
    from rft.run.parts import open_parts  # these two import Ray, which the core does not install
    from rft.run.recovery import RenewingSampler

    refuse_early(config)
    inputs = read_inputs(config, needs_training_tasks=True, output=Path(config.output_dir))
    console = make_console(quiet=quiet)
    inputs = with_merged_start(config, inputs, console.print)
    inputs = with_quantized_base(config, inputs, console.print)
    with ray_ahead_for(config):
        prepared = render_prompts(inputs)
        config = with_steps(config, len(prepared.tasks.train))
        recorder = open_recorder(config, prepared, ["rft.parts", *to_words(overrides)], None)
        async with open_parts(config, prepared, Progress(console).event) as opened:
            yield Parts(
                sampler=RenewingSampler(sampler=opened.sampler, learner=opened.learner),
                panel=opened.training_panel or opened.panel,
                learner=opened.learner,
                tasks=prepared.tasks,
                order=task_order(config, prepared.tasks.train),
                recorder=recorder,
                config=config,
            )
