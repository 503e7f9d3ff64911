"""Arms of a comparison. Each arm does the same job with rft or with TRL, in a fresh process.

The arms take turns (A B B A A B ...), so that other work on the machine disturbs all of them alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.machine_load import OtherLoad

HARNESS = Path(__file__).parent
ROOT = HARNESS.parents[1]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job, the same for both sides."""

    name: str
    """What tables call it."""
    model: Path
    """Folder of the base model."""
    tasks: Path
    """A task file of rft, read in the order of `rft.data.order`."""
    score: str
    """Name of the scoring function in `scoring.py`."""
    steps: int
    """Optimizer steps."""
    warm_up_steps: int
    """Number of first steps that are not timed."""
    prompts_per_step: int = 8
    """Tasks of a step."""
    completions_per_prompt: int = 8
    """Completions of a task."""
    max_completion_tokens: int = 48
    """Longest completion; longer ones are cut."""
    max_context_tokens: int = 320
    """Longest prompt and completion together."""
    learning_rate: float = 1e-3
    """Constant learning rate."""
    lora_rank: int = 16
    """Rank of the adapter, which covers all linear layers."""
    lora_alpha: int = 32
    """Scaling of the adapter."""
    delay_s: float = 0.0
    """Seconds that the grader sleeps for each completion."""
    seed: int = 0
    """Seed of the adapter's initial weights, the task order and the sampling."""
    dtype: str = "float32"
    """Number format of the base model's weights."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side, with options, that does a job."""

    name: str
    """What tables call it."""
    side: str
    """The program that does the job: `rft`, `trl`, or `nodes` for rft on several nodes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For rft, configuration keys; for TRL, options of `GRPOConfig` and of `trl_arm.py`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The record of an arm's work. Lists have one entry per step unless stated otherwise."""

    arm: str
    """Name of the arm."""
    model_sha: str
    """Fingerprint of the base model's files."""
    first_adapter: str
    """Fingerprint of the adapter before the first step."""
    lora: Mapping[str, Any]
    """Rank, alpha, dropout and target modules."""
    learning_rate: float
    """Learning rate of the optimizer after the last step."""
    prompts: Sequence[str]
    """Hash of the prompts' token ids, in order."""
    tasks: Sequence[Sequence[str]]
    """Task ids."""
    rewards: Sequence[Sequence[Sequence[float]]]
    """Rewards by group."""
    tokens: Sequence[Sequence[int]]
    """Length of each completion."""
    ended_s: Sequence[float]
    """`steps + 1` times in seconds: the start of the first step, and the end of each step."""
    phases_s: Sequence[Mapping[str, float]]
    """Seconds by phase."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Further figures for the tables."""
    other_cores: float = 0.0
    """Mean number of cores that other work kept busy meanwhile."""

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """Read an outcome that `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write the outcome as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def step_seconds(self, warm_up: int, cool_down: int = 0) -> list[float]:
        """Return the durations of the timed steps, which exclude the warm-up and the last steps of a pipeline."""
        durations = [end - begin for begin, end in zip(self.ended_s, self.ended_s[1:], strict=False)]
        return durations[warm_up : len(durations) - cool_down]


class ArmFailed(RuntimeError):
    """An arm's process ended without a result."""


def taking_turns(arms: Sequence[Arm], repeats: int) -> Iterator[tuple[int, Arm]]:
    """Yield every arm `repeats` times; every second round has the reverse order."""
    for repeat in range(repeats):
        for arm in arms if repeat % 2 == 0 else reversed(arms):
            yield repeat, arm


def run_arm(arm: Arm, job: Job, folder: Path, *, timeout_s: float) -> Outcome:
    """Do the job in a fresh process, and read its outcome.

    Args:
        arm: The arm that does the job.
        job: The job.
        folder: A new folder for its files.
        timeout_s: Deadline of the process, seconds.

    Raises:
        ArmFailed: Contains the end of the process's log.
    """
    folder.mkdir(parents=True)
    specification = folder / "job.json"
    specification.write_text(json.dumps({"job": asdict(job), "arm": asdict(arm)}, default=str), encoding="utf-8")
    log = folder / "log.txt"
    program = f"harness.{arm.side}_arm"
    command = [sys.executable, "-m", program, str(specification), str(folder / "outcome.json")]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
        )
        started, load = time.monotonic(), OtherLoad(process.pid)
        try:
            code = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the group contains Ray's and vLLM's processes
                process.wait()
            other_cores = load.stop(time.monotonic() - started)
    if code != 0:
        end_of_log = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
        how = f"did not end within {timeout_s:g} s" if code is None else f"ended with exit code {code}"
        raise ArmFailed(f"arm '{arm.name}' on '{job.name}' {how}; the end of {log}:\n{end_of_log}")
    return replace(Outcome.read(folder / "outcome.json"), other_cores=other_cores)


def read_specification(file: Path) -> tuple[Job, Arm]:
    """Read the job and the arm that `run_arm` wrote for its process."""
    values = json.loads(file.read_text(encoding="utf-8"))
    job = values["job"] | {"model": Path(values["job"]["model"]), "tasks": Path(values["job"]["tasks"])}
    return Job(**job), Arm(**values["arm"])


def environment() -> dict[str, str]:
    """Return this process's environment with rft and the harness on the import path, and without the network."""
    path = [str(ROOT), str(HARNESS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def hash_ids(prompts: Sequence[Sequence[int]]) -> str:
    """Return a hash of token ids, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([list(ids) for ids in prompts]).encode()).hexdigest()[:16]


def flatten(rows: Iterable[Iterable[Any]]) -> list[Any]:
    """Return the entries of all rows."""
    return [entry for row in rows for entry in row]
