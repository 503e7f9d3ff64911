"""Commands as users type them: on a terminal, or on a cluster of the test's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from rft.cli import main
from rft.run_folder.recorder import read_metrics
from tests.descendants import descendants

RFT = Path(sys.executable).with_name("rft")
TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
MARK = "RFT_TEST_RUN"
"""Environment variable by which the processes of a command are known."""
DEADLINE_S = 600.0
"""Of a command, however busy the machine is; it only ends what hangs."""
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
THREE_STEPS = (
    "experiment=quickstart",
    "loop.steps=3",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=2",
    "learner.completions_per_micro_batch=16",
    "data.test=test.jsonl",
    "data.validation=validation.jsonl",
    "evaluation.every_steps=2",
    "evaluation.completions_per_task=2",
)
NUM_TASKS = {"test": 12, "validation": 6}


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

    def press_ctrl_c(self) -> None:
        """Ask it to stop, as on a terminal."""
        os.killpg(self._process.pid, signal.SIGINT)

    def until_line(self, pattern: str) -> None:
        """Wait until it says something that matches."""
        while not re.search(pattern, self.output):
            assert self.code is None and time.monotonic() < self._ends, f"no {pattern}; it says:\n{self.output}"
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


@dataclass
class Run:
    """A command that has ended."""

    code: int
    output: str
    orphans: list[str]
    folder: Path
    commands: frozenset[str] = frozenset()
    """The command lines of all processes that it started."""

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text())


@dataclass
class Family:
    """A process and all that it started, each remembered as soon as it is seen."""

    mark: str
    process: psutil.Process
    seen: set[psutil.Process] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)

    def look(self) -> None:
        self.seen |= descendants([self.process.pid, *(process.pid for process in self.seen)])
        for process in self.seen:
            try:
                self.commands.add(" ".join(process.cmdline()))
            except psutil.NoSuchProcess:
                continue

    def left(self) -> list[str]:
        """Who is still alive after the head is gone: those seen, and those that carry the mark."""
        _, alive = psutil.wait_procs(self.seen, timeout=120)
        found = {*alive}
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.add(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return [str(process) for process in found]


def _rft(
    *words: str,
    cwd: Path,
    on_line: Callable[[str, Callable[[], None]], None] | None = None,
    output_dir: str = "run",
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a command. `on_line(line, press_ctrl_c)` sees each line of its output while it runs.

    It gets a session of its own, so that Ctrl-C reaches all of its processes, as on a terminal.
    """
    mark = uuid.uuid4().hex
    own = {MARK: mark, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
    started = subprocess.Popen(
        [RFT, *words],
        cwd=cwd,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    family = Family(mark, psutil.Process(started.pid))
    overdue = threading.Timer(DEADLINE_S, lambda: os.killpg(started.pid, signal.SIGKILL))
    overdue.start()
    lines = []
    try:
        assert started.stdout is not None
        for line in started.stdout:
            lines.append(line)
            family.look()
            if on_line is not None:
                on_line(line, lambda: os.killpg(started.pid, signal.SIGINT))
        code = started.wait()
    finally:
        overdue.cancel()
    print("".join(lines))  # pytest shows it when the test fails
    orphans, commands = family.left(), frozenset(family.commands)
    return Run(code=code, output="".join(lines), orphans=orphans, folder=cwd / output_dir, commands=commands)


def _write_tasks(folder: Path) -> Path:
    for name, number in NUM_TASKS.items():
        lines = (TASKS / f"{name}.jsonl").read_text().splitlines(keepends=True)[:number]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def rft() -> Callable[..., Run]:
    """`rft("train", "output_dir=run", cwd=folder)`: run a command to its end."""
    return _rft


@pytest.fixture
def rft_here(
    running_ray: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Run]:
    """`rft_here("train", "output_dir=run", cwd=folder)`: a command in this process, on the Ray that runs already."""

    def call(*words: str, cwd: Path) -> Run:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["rft"])
        # The run folder is absolute: the processes of this Ray have a working directory of their own.
        absolute = [re.sub("^(output_dir|resume)=run$", rf"\1={cwd / 'run'}", word) for word in words]
        with pytest.raises(SystemExit) as caught:
            main(absolute)
        assert isinstance(caught.value.code, int)
        return Run(code=caught.value.code, output="".join(capsys.readouterr()), orphans=[], folder=cwd / "run")

    return call


def _rft_in_process(*words: str, cwd: Path, output_dir: str = "run") -> Run:
    from tests.fake_ray import run_command

    code, output = run_command(*words, cwd=cwd)
    return Run(code=code, output=output, orphans=[], folder=cwd / output_dir)


@pytest.fixture(scope="session")
def rft_in_process() -> Callable[..., Run]:
    """Like `rft`, in this process and without Ray."""
    return _rft_in_process


@pytest.fixture(scope="module", params=["one process", pytest.param("processes", marks=pytest.mark.full)])
def rft_either_way(request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Like `rft`, or the same in this process: a real learner and the engine of Transformers, without Ray and vLLM.

    `trained` shows that the processes of a run work together.
    """
    return _rft_in_process if request.param == "one process" else _rft


@pytest.fixture(scope="module")
def killed_either_way(rft_either_way: Callable[..., Run]) -> Callable[..., int]:
    """`killed_either_way("train", "output_dir=run", cwd=folder)`: the exit code of a command whose driver is killed."""
    from tests.killed_program import run_killed

    return partial(run_killed, how="processes" if rft_either_way is _rft else "one-process")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with held-out tasks: the first of the embedded files."""
    return _write_tasks(tmp_path)


@pytest.fixture(scope="session")
def three_steps() -> tuple[str, ...]:
    """The words of `trained`, but for its `output_dir`."""
    return THREE_STEPS


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three steps on the embedded model, with everything real."""
    return _rft("train", *THREE_STEPS, "output_dir=run", cwd=_write_tasks(tmp_path_factory.mktemp("trained")))


@pytest.fixture(scope="session")
def trained_in_process(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same steps in this process."""
    return _rft_in_process(
        "train", *THREE_STEPS, "output_dir=run", cwd=_write_tasks(tmp_path_factory.mktemp("trained"))
    )


@pytest.fixture
def trained_either_way(rft_either_way: Callable[..., Run], request: pytest.FixtureRequest) -> Run:
    """`trained`, or `trained_in_process`, for commands by `rft_either_way`."""
    run: Run = request.getfixturevalue("trained" if rft_either_way is _rft else "trained_in_process")
    return run
