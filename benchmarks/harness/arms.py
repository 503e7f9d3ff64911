"""Arms of a comparison: the same job done by one side or the other, each time in a fresh process.

The arms take turns (A B B A A B ...), so that what disturbs the machine disturbs all of them.
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
    """One training job: all that both sides must do alike."""

    name: str
    """What tables call it."""
    model: Path
    """Folder of the base model."""
    tasks: Path
    """A task file of rft; its rows are taken in the order of `rft.data.order`."""
    score: str
    """Which of the functions in `scoring.py` grades."""
    steps: int
    """Optimizer steps."""
    warm_up_steps: int
    """The first so many steps are not timed."""
    prompts_per_step: int = 8
    """Tasks of a step."""
    completions_per_prompt: int = 8
    """Completions of each."""
    max_completion_tokens: int = 48
    """A completion is cut here."""
    max_context_tokens: int = 320
    """Prompt and completion together."""
    learning_rate: float = 1e-3
    """Constant."""
    lora_rank: int = 16
    """On all linear layers."""
    lora_alpha: int = 32
    """Scaling."""
    delay_s: float = 0.0
    """How long the grader sleeps for each completion, seconds."""
    seed: int = 0
    """Of the adapter's start, the order of the tasks and the sampling."""
    dtype: str = "float32"
    """Of the base model's weights."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side's way to do a job."""

    name: str
    """What tables call it."""
    side: str
    """`rft` or `trl`: which program does the job."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of rft: configuration keys. Of TRL: options of `GRPOConfig`, and what `trl_arm.py` says."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an arm did, step by step. Lists have one entry a step unless they say otherwise."""

    arm: str
    """Its name."""
    model_sha: str
    """Fingerprint of the base model's files."""
    first_adapter: str
    """Fingerprint of the adapter before the first step."""
    lora: Mapping[str, Any]
    """Rank, alpha, dropout and target modules."""
    learning_rate: float
    """Of the optimizer, after the last step."""
    prompts: Sequence[str]
    """Hash of the prompts' token ids, in order."""
    tasks: Sequence[Sequence[str]]
    """Task ids."""
    rewards: Sequence[Sequence[Sequence[float]]]
    """By group."""
    tokens: Sequence[Sequence[int]]
    """Length of each completion."""
    ended_s: Sequence[float]
    """When the step ended, seconds; `steps + 1` entries, the first of them when the first step began."""
    phases_s: Sequence[Mapping[str, float]]
    """Seconds by phase."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Other figures, for the table."""
    other_cores: float = 0.0
    """Cores that work which is not the arm's kept busy meanwhile, on average."""

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """Read what `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def step_seconds(self, warm_up: int, cool_down: int = 0) -> list[float]:
        """Duration of every timed step: those after the warm-up, without the last few of a pipeline that runs empty."""
        durations = [end - begin for begin, end in zip(self.ended_s, self.ended_s[1:], strict=False)]
        return durations[warm_up : len(durations) - cool_down]


class ArmFailed(RuntimeError):
    """An arm's process ended without a result."""


def taking_turns(arms: Sequence[Arm], repeats: int) -> Iterator[tuple[int, Arm]]:
    """Every arm `repeats` times; every other round runs backwards."""
    for repeat in range(repeats):
        for arm in arms if repeat % 2 == 0 else reversed(arms):
            yield repeat, arm


def run_arm(arm: Arm, job: Job, folder: Path, *, timeout_s: float) -> Outcome:
    """Do the job in a fresh process, and read what it did.

    Args:
        arm: Who does it.
        job: What.
        folder: A new folder for its files.
        timeout_s: Deadline of the process, seconds.

    Raises:
        ArmFailed: With the end of what the process said.
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
                os.killpg(process.pid, signal.SIGKILL)  # Ray's and vLLM's processes are in its group
                process.wait()
            other_cores = load.stop(time.monotonic() - started)
    if code != 0:
        said = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])
        how = f"did not end within {timeout_s:g} s" if code is None else f"ended with {code}"
        raise ArmFailed(f"arm '{arm.name}' on '{job.name}' {how}; the end of {log}:\n{said}")
    return replace(Outcome.read(folder / "outcome.json"), other_cores=other_cores)


def read_specification(file: Path) -> tuple[Job, Arm]:
    """What `run_arm` wrote for the process that it starts."""
    values = json.loads(file.read_text(encoding="utf-8"))
    job = values["job"] | {"model": Path(values["job"]["model"]), "tasks": Path(values["job"]["tasks"])}
    return Job(**job), Arm(**values["arm"])


def environment() -> dict[str, str]:
    """This process's environment, without the network, and with rft and the harness importable."""
    path = [str(ROOT), str(HARNESS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def hash_ids(prompts: Sequence[Sequence[int]]) -> str:
    """Hash of token ids, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps([list(ids) for ids in prompts]).encode()).hexdigest()[:16]


def flatten(rows: Iterable[Iterable[Any]]) -> list[Any]:
    """The entries of all rows."""
    return [entry for row in rows for entry in row]
