"""The learner of a run in this process, without a Ray actor around it."""

from __future__ import annotations

from dataclasses import replace

from rft.cluster import Workplace, share_out, this_machine
from rft.config import RunConfig, completions_per_micro_batch
from rft.learning.build import build_learner
from rft.learning.spec import LocalLearner
from rft.memory import Device, Sizes
from rft.run import build
from rft.run.inputs.prepare import Prepared, prepare


def local_learner(config: RunConfig) -> tuple[LocalLearner, Prepared]:
    """Return the learner of a run on the CPU, with the seed and sizes that it has there, and the run's inputs.

    Args:
        config: Configuration of the run.
    """
    prepared = prepare(config, needs_training_tasks=True)
    machine = replace(this_machine(num_processes=1), gpus=0.0)
    place = Workplace(
        shares=share_out(config.sampler, config.learner, [machine]),
        model=prepared.model,
        sampler_options=(),
        learner_options=(),
        mirrors=(),
        device=Device(ram_bytes=None),
    )
    sizes = Sizes(completions_per_micro_batch=completions_per_micro_batch(config))
    return build_learner(build.learner_spec(config, prepared, place, None, sizes)), prepared
