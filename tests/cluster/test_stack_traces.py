"""The stacks of actors, even of a process whose interpreter hangs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rft.cluster import stack_traces
from rft.cluster.stack_traces import actor_stacks, handles_signal, stacks_below

ROOT = Path(__file__).parents[2]
# A regular expression holds the interpreter's lock for hours; a handler in Python would never run.
HANGING = """
import re
from rft.reliability.stack_traces import write_stacks_on_signal
write_stacks_on_signal()
print("ready", flush=True)
def hang():
    re.match("(a|aa)+$", "a" * 60 + "b")
hang()
"""


@contextmanager
def process(program: str, logs: Path) -> Iterator[int]:
    """A process that has printed a line; its errors go where Ray's actors write them."""
    log = logs / "log"
    with log.open("wb") as errors:
        started = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    log.rename(logs / f"worker-1a2b-ffffffff-{started.pid}.err")
    with started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        try:
            yield started.pid
        finally:
            started.kill()


@pytest.fixture(autouse=True)
def all_processes_are_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_traces, "ACTOR", re.compile(r"\S*(python)\S* -c"))


def test_a_process_that_hangs_in_c_code_writes_its_stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_traces, "ANSWER_S", 60.0)
    with process(HANGING, tmp_path) as pid:
        text = ""
        while "in hang" not in text:  # at first it may still be on its way there
            [(name, text)] = stacks_below(os.getpid(), tmp_path).items()
    assert name == f"python-{pid}"
    assert re.search(r'File "<string>", line 7 in hang\n.*File "<string>", line 8 in <module>', text, re.DOTALL)


def test_a_stopped_process_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_traces, "ANSWER_S", 0.1)
    with process(HANGING, tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert stacks_below(os.getpid(), tmp_path) == {
            f"python-{pid}": "no answer within 0.1 s: the process is stopped\n"
        }


def test_a_process_without_a_handler_is_left_alone(tmp_path: Path) -> None:
    with process("import time; print('ready', flush=True); time.sleep(1000)", tmp_path) as pid:
        assert not handles_signal(pid)
        assert stacks_below(os.getpid(), tmp_path) == {
            f"python-{pid}": "no answer: the process is starting or ending\n"
        }
        os.kill(pid, 0)


@pytest.mark.e2e
def test_the_actors_of_a_ray(running_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from rft.reliability.stack_traces import write_stacks_on_signal

    monkeypatch.undo()

    class SamplerActor:
        def __init__(self) -> None:
            write_stacks_on_signal()

        def pid(self) -> int:
            return os.getpid()

    actor = ray.remote(SamplerActor).remote()
    try:
        pid = ray.get(actor.pid.remote())
        found = asyncio.run(actor_stacks())
        assert "most recent call first" in found[f"SamplerActor-{pid}"]
    finally:
        ray.kill(actor)
