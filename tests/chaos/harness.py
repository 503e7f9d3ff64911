"""Runs a training whose processes are struck, resumes it until it finishes, and looks for what it left behind."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.cells import Cell
from tests.descendants import descendants

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).parent / "inside"
TASKS = ROOT / "rft" / "embedded" / "tasks" / "chain_sum"
MARK = "RFT_CHAOS_RUN"
"""Environment variable by which the processes of a run are known, even without their parents."""
STEPS = 7
LATE_STEP = 5
"""The step after which most faults strike: two checkpoints are complete, and a step was made since."""
DEADLINE_S = 900.0
"""Seconds for one command, however busy the machine is."""
MAX_STARTS = 4
LEFTOVER_S = 60.0
"""Seconds after the end of a command until which its processes may end."""
LOOK_S = 0.5
LOOKS_PER_PORTS = 8
"""The list of ports takes more time than that of processes."""
SMALL = (
    "experiment=quickstart",
    f"loop.steps={STEPS}",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=4",
    "loop.checkpoint_every_steps=2",
    "sampler.max_completion_tokens=12",
    "evaluation.every_steps=null",
    "data.validation=null",
    "logging=none",
    "audit=off",
    "~graders.correct",
    f"graders.digits={{use: '{INSIDE}/chaos_grader.py:digits', timeout_s: 15, retries: 3}}",
    # Deadlines that expire must be short. Nothing else may take as long.
    "sampler.stall_timeout_s=20",
    "learner.step_timeout_s=20",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One command."""

    code: int
    output: str
    wall_s: float
    leftovers: tuple[str, ...]
    """Processes, ports, shared memory and folders that are there `LEFTOVER_S` after the end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run or sweep, from its first command to the one that finished it, or the last."""

    run: Path
    """The run folder, or the folder of the sweep."""
    attempts: tuple[Attempt, ...]
    struck: tuple[str, ...]
    """The faults that have struck, by their ids."""


def words_of(cell: Cell) -> tuple[str, ...]:
    """Return the words of a cell's run, which its undisturbed run shares."""
    num_ranks = 2 if cell.target == "rank" else 1
    return (
        f"sampler={cell.engine}",
        f"sampler.num_actors={2 if cell.target == 'one of two samplers' else 1}",
        f"data.test={'test.jsonl' if cell.moment == 'measuring' else 'null'}",
        f"loop.staleness={cell.staleness}",
        f"learner={cell.learner}",
        f"learner.num_workers={num_ranks}",
        f"learner.completions_per_micro_batch={8 // num_ranks}",
        *(
            ("output_dir=run", "or_resume=true")
            if cell.trials == 1
            else ("-m", f"seed={','.join(map(str, range(cell.trials)))}", "hydra.sweep.dir=run")
        ),
    )


def faults_of(cell: Cell) -> list[dict[str, object]]:
    """Return the plan of a cell: one fault."""
    step = {"starting": None, "idle": None, "measuring": STEPS, "closing": STEPS}.get(cell.moment, LATE_STEP)
    return [{"id": "one", "kind": cell.kind, "target": cell.target, "moment": cell.moment, "step": step}]


def train(
    words: Sequence[str], folder: Path, faults: Sequence[dict[str, object]] = (), *, max_starts: int = MAX_STARTS
) -> Outcome:
    """Run a training in a folder, and the same command again until it ends with exit code 0.

    Args:
        words: The words of the run besides `SMALL`; later ones win.
        folder: An empty folder; the run folder is `run` in it.
        faults: The faults that strike, see `inside/fault_plan.py`.
        max_starts: Number of commands at most.
    """
    state = folder / "state"
    state.mkdir(parents=True)
    lines = (TASKS / "test.jsonl").read_text().splitlines(keepends=True)[:4]
    (folder / "test.jsonl").write_text("".join(lines))
    run = folder / "run"
    located = [fault | {"run": str(run)} for fault in faults]
    (folder / "plan.json").write_text(json.dumps({"state": str(state), "faults": located}))
    attempts = []
    while len(attempts) < max_starts:
        attempts.append(_attempt([sys.executable, "-m", "rft.cli", "train", *SMALL, *words], folder))
        if attempts[-1].code == 0:
            break
    struck = tuple(sorted(path.name.removeprefix("struck-") for path in state.glob("struck-*")))
    return Outcome(run, tuple(attempts), struck)


def _attempt(command: Sequence[str], folder: Path) -> Attempt:
    with _temporary_folder() as temporary:
        mark = temporary.name
        before = shared_memory()
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder, temporary, mark),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        family = Family(process.pid, mark)
        looking = threading.Thread(target=family.watch, daemon=True)
        looking.start()
        overdue = threading.Timer(DEADLINE_S, process.kill)
        overdue.start()
        lines: list[str] = []
        assert process.stdout is not None
        # Processes that are left over may hold the pipe open, so its end is not awaited.
        reading = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        reading.start()
        code = process.wait()
        wall_s = time.monotonic() - began
        overdue.cancel()
        family.is_over.set()
        looking.join()
        leftovers = [*family.left(), *orphaned_shared_memory(before), *_folders(temporary)]
        reading.join(1.0)
    return Attempt(code, "".join(lines), wall_s, tuple(leftovers))


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield the temporary folder of a command. Its path is short, because Ray puts sockets into it."""
    temporary = Path(tempfile.mkdtemp(prefix="rft-c-", dir="/tmp"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _environment(folder: Path, temporary: Path, mark: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(INSIDE), str(ROOT), os.environ.get("PYTHONPATH"))))
    removed = ("RAY_ADDRESS", "RFT_FAULT_DRIVER")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    plan = str(folder / "plan.json")
    return kept | {
        "PYTHONPATH": path,
        "RFT_FAULT_PLAN": plan,
        MARK: mark,
        "TMPDIR": str(temporary),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


@dataclass
class Family:
    """The processes of a command, and the ports on which they listen, each remembered as soon as it is seen."""

    pid: int
    mark: str
    seen: set[psutil.Process] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    is_over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Look until the command is over."""
        for number in itertools.count():
            if self.is_over.wait(LOOK_S):
                return
            self.look(with_ports=number % LOOKS_PER_PORTS == 0)

    def look(self, *, with_ports: bool) -> None:
        """Remember all processes that descend from the command, and the ports on which they listen."""
        self.seen |= descendants([self.pid, *(process.pid for process in self.seen)])
        if with_ports:
            pids = {self.pid, *(process.pid for process in self.seen)}
            self.ports |= {port for port, pid in _listening() if pid in pids}

    def left(self) -> list[str]:
        """Return the processes and ports that are still there after `LEFTOVER_S`, and end the processes."""
        _, alive = psutil.wait_procs(self.seen, timeout=LEFTOVER_S)
        remaining = {*alive, *_marked(self.mark)}
        pids = {process.pid for process in remaining}
        ports = {port for port, pid in _listening() if port in self.ports and pid in pids}
        names = [f"process {_title(process)}" for process in remaining] + [f"port {port}" for port in sorted(ports)]
        for process in remaining:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return names


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{' '.join(process.cmdline())[:80]} ({process.status()})"
    return str(process.pid)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                yield process


def _listening() -> list[tuple[int, int | None]]:
    connections = psutil.net_connections(kind="tcp")
    return [(one.laddr.port, one.pid) for one in connections if one.status == psutil.CONN_LISTEN]


def shared_memory() -> dict[str, int]:
    """Return the shared memory of this user: inodes by path."""
    inodes = {}
    for path in Path("/dev/shm").iterdir():
        with suppress(FileNotFoundError):
            if (status := path.stat()).st_uid == os.getuid():
                inodes[str(path)] = status.st_ino
    return inodes


def _mapped_inodes() -> set[int]:
    """Return the inodes of the shared memory that processes have mapped. A semaphore's path is another one here."""
    inodes: set[int] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):  # the process has ended, or belongs to someone else
            inodes |= set(map(int, re.findall(r" (\d+) +/dev/shm/", maps.read_text())))
    return inodes


def orphaned_shared_memory(before: dict[str, int]) -> list[str]:
    """Return new shared memory that no process uses. What other programs create meanwhile has a process."""
    give_up_s = time.monotonic() + LEFTOVER_S
    while True:
        new = {path: inode for path, inode in shared_memory().items() if path not in before}
        mapped = _mapped_inodes() if new else set()
        left = sorted(path for path, inode in new.items() if inode not in mapped)
        if not left or time.monotonic() > give_up_s:
            return left
        time.sleep(LOOK_S)


def _folders(temporary: Path) -> list[str]:
    """Return what is left in the temporary folder, besides Ray's logs, torch's cache, and vLLM's file for its ranks."""
    kept = ("ray", "torchinductor_", "vllm_dist_")
    return [f"temporary {path.name}" for path in sorted(temporary.iterdir()) if not path.name.startswith(kept)]


class Undisturbed:
    """Undisturbed runs, each made once.

    Args:
        folder: Keeps the runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, words: Sequence[str]) -> Path:
        """Return the folder of the undisturbed run with these words.

        Raises:
            RuntimeError: The run failed.
        """
        key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
        folder = self._folder / f"undisturbed-{key}"
        if (folder / "passed").exists():
            return folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        [attempt] = train(words, folder, max_starts=1).attempts
        if attempt.code or attempt.leftovers:
            raise RuntimeError(f"the undisturbed run failed; left over: {attempt.leftovers}\n{attempt.output}")
        (folder / "passed").touch()
        return folder / "run"
