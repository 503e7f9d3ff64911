"""Ray: started for the run, stopped at its end, and the CPUs and GPUs shared out."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rft.config.schema import LearnerConfig, SamplerConfig
from rft.errors import ConfigError
from rft.waiting import wait_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each process of the run gets."""

    sampler_threads: int
    """CPU threads of each sampler."""
    learner_threads: int
    """CPU threads of the learner."""
    sampler_gpus: float
    """GPUs of each sampler."""
    learner_gpus: float
    """GPUs of the learner."""


def num_gpus_here() -> int:
    """NVIDIA GPUs of this machine, as its driver counts them."""
    if shutil.which("nvidia-smi") is None:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])


def share_out(sampler: SamplerConfig, learner: LearnerConfig | None, *, num_cpus: int, num_gpus: int) -> Shares:
    """Share the machine out among samplers and learner; what is configured stands.

    CPU threads: the cores divided by the number of processes, at least one each. GPUs: one each when there are enough,
    otherwise equal fractions of those there are.

    Raises:
        ConfigError: More GPUs are asked for than there are.
    """
    processes = sampler.num_actors + (learner is not None)
    threads = max(1, num_cpus // processes)
    gpus = 0.0 if num_gpus == 0 else min(1.0, num_gpus / processes)
    shares = Shares(
        sampler_threads=sampler.num_threads or threads,
        learner_threads=(learner and learner.num_threads) or threads,
        sampler_gpus=gpus if sampler.num_gpus is None else sampler.num_gpus,
        learner_gpus=gpus if learner is None or learner.num_gpus is None else learner.num_gpus,
    )
    wanted = sampler.num_actors * shares.sampler_gpus + (shares.learner_gpus if learner else 0.0)
    if wanted > num_gpus + 1e-9:
        raise ConfigError(
            "cluster",
            [
                f"{sampler.num_actors} sampler(s) with {shares.sampler_gpus:g} GPU(s) each and a learner with "
                f"{shares.learner_gpus:g} want {wanted:g}, but there are {num_gpus}; lower sampler.num_actors, "
                "sampler.num_gpus or learner.num_gpus (0 runs on the CPU)"
            ],
        )
    return shares


@asynccontextmanager
async def local_ray(*, num_processes: int, num_gpus: int, start_timeout_s: float) -> AsyncIterator[None]:
    """Ray on this machine for as long as the block lasts; nothing of it is left afterwards.

    Args:
        num_processes: Actors to be placed, one CPU each.
        num_gpus: GPUs that Ray may give out.
        start_timeout_s: Deadline for starting, seconds.
    """
    import asyncio

    import ray

    def start() -> None:
        ray.init(
            address="local",
            num_cpus=max(num_processes, os.cpu_count() or 1),
            num_gpus=num_gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
        )

    try:
        await wait_for(asyncio.to_thread(start), what="Ray to start", deadline_s=start_timeout_s)
        yield
    finally:
        ray.shutdown()
