"""Parts about one GPU that several processes, or engine and learner, share."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gpu.adapters import random_adapter
from gpu.bench import Bench
from gpu.learner_parts import open_learner
from gpu.report import Notes, NotRun
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.gpu_memory import wait_for_room

BLOCKS_TOLERANCE = 0.05
"""Largest relative difference in blocks between an idle GPU and a GPU on which another process holds memory."""
HOLD_MEMORY = """
import sys, torch
held = torch.zeros(int(sys.argv[1]), dtype=torch.uint8, device=sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def cache_blocks(bench: Bench, notes: Notes, *, beside_gb: int) -> None:
    """Start an engine, optionally beside a process that holds memory; note the blocks of its key-value cache."""
    num_bytes = beside_gb * 10**6 if bench.dry else beside_gb * 10**9
    with held_memory(bench, num_bytes) as other:
        engine = bench.engine("0.5B")
        blocks = engine.describe()["num_cache_blocks"]
        notes.note(num_blocks=blocks)
        notes.check("there is a cache", blocks > 0)
        if other is not None:
            other.kill()
            with bench.timed() as seconds:
                wait_for_room(0.5)
            notes.note(freed_s=seconds[0])
    alone = bench.work / "cache_alone.json"
    if beside_gb and alone.exists():
        expected = json.loads(alone.read_text(encoding="utf-8"))["figures"]["num_blocks"]
        notes.check("as many blocks as alone", abs(blocks / expected - 1) <= BLOCKS_TOLERANCE)


def asleep(bench: Bench, notes: Notes) -> None:
    """Let an engine sleep and wake: its memory must be free during sleep, and its scores equal afterwards.

    Raises:
        NotRun: On the CPU, where engines do not sleep.
    """
    if bench.dry:
        raise NotRun("engines sleep on GPUs only")
    import torch

    from rft.sampling.build import build_engine

    engine: Any = build_engine(replace(bench.engine_spec("0.5B", enforce_eager=True), sleeps=True))
    loaded = engine.load(random_adapter(bench, version=1, seed=1))
    sequences = bench.random_ids(8, 36)
    awake = engine.score(sequences)
    before = torch.cuda.mem_get_info()[0]
    with bench.timed() as falling_asleep:
        engine.sleep()
    freed = torch.cuda.mem_get_info()[0] - before
    with bench.timed() as waking:
        engine.wake()
    again = engine.score(sequences)
    notes.note(sleep_s=falling_asleep[0], wake_s=waking[0], freed_bytes=freed)
    notes.check("the adapter was read back", not loaded.problems)
    notes.check("most of its memory was free", freed > 0.25 * torch.cuda.get_device_properties(0).total_memory)
    notes.check("the scores are the same, bit for bit", awake.logprobs == again.logprobs)
    notes.check("the cache is empty after waking", again.reused_tokens == 0)


@contextmanager
def held_memory(bench: Bench, num_bytes: int) -> Iterator[subprocess.Popen[str] | None]:
    """Run a process that holds memory on the device; yield None for 0 bytes."""
    if not num_bytes:
        yield None
        return
    command = [sys.executable, "-c", HOLD_MEMORY, str(num_bytes), bench.device]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "held\n":
                raise RuntimeError(f"a process could not hold {num_bytes} bytes on {bench.device}")
            yield process
        finally:
            process.kill()


def learner_beside_engine(bench: Bench, notes: Notes) -> None:
    """Time learner steps and decoding, each alone and both at once, in one process."""
    size = bench.size
    prompt, completion = max(2, 250 // size.divisor), max(2, 512 // size.divisor)
    engine = bench.engine("0.5B", max_num_seqs=size.num_completions)
    engine.load(random_adapter(bench, version=1, seed=1))
    options = SamplingOptions(temperature=1.0, max_completion_tokens=size.max_context_tokens - 32)
    requests = [Request(task_id="t", index=i, prompt_ids=(7,) * 16, seed=i) for i in range(size.num_completions)]
    with open_learner(bench.learner_spec("0.5B", rows=16, completion_tokens=completion)) as learner:

        def learn() -> float:
            policy = learner.publish().policy
            group = bench.group(rows=16, prompt_tokens=prompt, completion_tokens=completion, policy=policy)
            with bench.timed() as seconds:
                learner.learn([group])
            return seconds[0]

        learn()
        learner_alone = learn()
        engine.add(1, requests, options, engine.policies[-1])
        engine.step()  # all prompts
        engine_alone = steps_per_s(engine, lambda: time.sleep(learner_alone))
        shared: list[float] = []
        engine_shared = steps_per_s(engine, lambda: shared.append(learn()))
        engine.abort(1)
    notes.note(
        learner_alone_s=learner_alone,
        learner_shared_s=shared[0],
        engine_alone_steps_per_s=engine_alone,
        engine_shared_steps_per_s=engine_shared,
        peak_bytes=bench.peak_bytes(),
    )
    notes.check("both worked", shared[0] > 0 and engine_shared > 0)


def steps_per_s(engine: Any, meanwhile: Callable[[], object]) -> float:
    """Step an engine in a thread while a function runs; return its steps per second."""
    is_over, num_steps = threading.Event(), 0

    def step() -> None:
        nonlocal num_steps
        while not is_over.is_set() and engine.has_unfinished:
            engine.step()
            num_steps += 1

    thread = threading.Thread(target=step, name="engine")
    began = time.perf_counter()
    thread.start()
    try:
        meanwhile()
    finally:
        is_over.set()
        thread.join()
    return num_steps / (time.perf_counter() - began)
