"""Commands as users type them, on a cluster of the test's own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from rft.recorder import read_metrics

DEADLINE_S = 240.0
POLL_S = 0.1
SMALL = (
    "experiment=quickstart",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=4",
    "learner.completions_per_micro_batch=8",
    "evaluation.every_steps=null",
    "data.test=null",
    "data.validation=null",
    "logging=none",
)


class Command:
    """A command on its way, or ended.

    Args:
        words: What is run.
        log: What it says goes there.
        environment: All of it.
    """

    def __init__(self, words: tuple[str | Path, ...], log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._ends = time.monotonic() + DEADLINE_S
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                words,
                cwd=log.parent,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it goes on."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")

    @property
    def message(self) -> str:
        """What rft says of its failure, and all that follows."""
        return self.output[self.output.index("rft: ") :]

    @property
    def gets(self) -> dict[str, str]:
        """From the plan that a run prints: what each node gets."""
        row = r"^  (\S.*?) {2,}\S+ of \S+ +\S+ of \S+ +(.+)$"
        return dict(re.findall(row, self.output, flags=re.MULTILINE))

    def until_step(self, step: int, run: str = "run") -> None:
        """Wait until a run has done this step."""
        while not any(line["step"] >= step for line in read_metrics(self._log.parent / run)):
            assert self.code is None and time.monotonic() < self._ends, f"no step {step}; it says:\n{self.output}"
            time.sleep(POLL_S)

    def end(self) -> Command:
        """Wait for its end; past the deadline it is killed, with all that it has started."""
        try:
            self._process.wait(self._ends - time.monotonic())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            print(self.output)
        return self


class User:
    """Who types commands, with a cluster at hand.

    Args:
        folder: Where the commands run.
        environment: Besides that of the tests.
        address: Of the head.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], address: str) -> None:
        self.folder = folder
        self.address = address
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **environment}
        self.environment.pop("RAY_ADDRESS", None)
        self._numbers = count()

    def begin(self, *command: str | Path, **environment: str) -> Command:
        """Start a command."""
        return Command(command, self.folder / f"said-{next(self._numbers)}.txt", self.environment | environment)

    def run(self, *command: str | Path, **environment: str) -> Command:
        """Run a command to its end."""
        return self.begin(*command, **environment).end()

    def begin_training(self, *words: str, run: str = "run", **environment: str) -> Command:
        """Start `rft train` on this cluster."""
        return self._begin_rft("train", f"output_dir={run}", *words, **environment)

    def train(self, *words: str, run: str = "run", **environment: str) -> Command:
        """`rft train` on this cluster, to its end."""
        return self.begin_training(*words, run=run, **environment).end()

    def grid(self, *words: str, folder: str = "sweep") -> Command:
        """`rft train -m` on this cluster, to its end."""
        return self._begin_rft("train", "-m", f"hydra.sweep.dir={folder}", *words).end()

    def _begin_rft(self, command: str, *words: str, **environment: str) -> Command:
        attach = ("cluster=attach", f"cluster.address={self.address}", f"cluster.node_folder={self.folder / 'node'}")
        return self.begin(sys.executable, "-m", "rft.cli", command, *SMALL, *attach, *words, **environment)


@pytest.fixture(scope="session")
def make_user() -> Callable[..., User]:
    """`make_user(folder, {"RAY_AUTH_MODE": "token"}, "127.0.0.1:6379")`."""
    return User


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """The words of a run of seconds."""
    return SMALL
