"""Runs parts one after the other, each in a process of its own with a deadline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gpu.plans import Part
from gpu.report import Outcome, Result

BENCHMARKS = Path(__file__).parents[1]
MIN_PART_S = 10.0
"""A part with less time left is not started."""
DRY_RUN_FACTOR = 10.0
"""Factor of all deadlines in a dry run, for busy CPUs."""
FREED_TIMEOUT_S = 20.0
"""Deadline for the driver to free the memory of a killed process."""
POLL_S = 0.2


def run_parts(
    parts: Sequence[Part], *, work: Path, limit_s: float, dry_run: bool, search: Sequence[Path] = ()
) -> Iterator[Result]:
    """Run parts one after the other, and yield the result of each.

    Args:
        parts: The parts, in order.
        work: Folder for models, logs and results; existing models are used again.
        limit_s: Seconds for all parts together. A part that no longer fits is reported as not run.
        dry_run: Whether everything is small and runs on the CPU, with longer deadlines.
        search: Folders from which Python imports before its own packages.
    """
    slower = DRY_RUN_FACTOR if dry_run else 1.0
    ends = time.monotonic() + slower * limit_s
    if not dry_run and shutil.which("nvidia-smi") is None:
        for part in parts:
            yield Result(part=part.name, outcome=Outcome.NOT_RUN, reason="no NVIDIA GPU: nvidia-smi is missing")
        return
    used_mib = None if dry_run else _used_mib()
    for part in parts:
        left_s = ends - time.monotonic()
        deadline_s = slower * part.deadline_s
        if left_s < min(MIN_PART_S, deadline_s):
            reason = f"the {limit_s:g} s of all parts were over"
            yield Result(part=part.name, outcome=Outcome.NOT_RUN, reason=reason)
            continue
        result = run_part(part, work=work, deadline_s=min(deadline_s, left_s), dry_run=dry_run, search=search)
        yield result
        if result.outcome is Outcome.TIMED_OUT and used_mib is not None:
            _wait_until(lambda: _used_mib() <= used_mib + 1024)


def run_part(part: Part, *, work: Path, deadline_s: float, dry_run: bool, search: Sequence[Path] = ()) -> Result:
    """Run one part in a process; kill its process group at the deadline."""
    work.mkdir(parents=True, exist_ok=True)
    log, file = work / f"{part.name}.log", work / f"{part.name}.json"
    file.unlink(missing_ok=True)
    paths = [*search, BENCHMARKS, BENCHMARKS.parent]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "gpu.process", part.name, str(work), str(file)]
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, "--dry-run"] if dry_run else command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = round(time.monotonic() - began, 1)
    if code is None:
        reason = f"no end within {deadline_s:.3g} s; see {log}"
        return Result(part=part.name, outcome=Outcome.TIMED_OUT, reason=reason, seconds=seconds)
    if not file.exists():
        reason = f"exit code {code} without a result: {_last_line(log)}; see {log}"
        return Result(part=part.name, outcome=Outcome.FAILED, reason=reason, seconds=seconds)
    written = json.loads(file.read_text(encoding="utf-8"))
    return Result(**written | {"part": part.name, "outcome": Outcome(written["outcome"]), "seconds": seconds})


def install_wheels(wheels: Path, target: Path) -> None:
    """Install all wheels of a folder into another one, without a network and without their dependencies.

    Raises:
        CalledProcessError: pip failed.
    """
    files = sorted(map(str, wheels.glob("*.whl")))
    options = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *options, *files], check=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _used_mib() -> int:
    """Return the memory in use on all GPUs, in MiB."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    reply = subprocess.run(command, capture_output=True, text=True, timeout=FREED_TIMEOUT_S, check=True)
    return sum(map(int, reply.stdout.split()))


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the memory of a killed part is free, or the deadline is over: the next part shows missing memory."""
    ends = time.monotonic() + FREED_TIMEOUT_S
    while not condition() and time.monotonic() < ends:
        time.sleep(POLL_S)
