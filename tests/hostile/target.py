"""Runs one property of tests/hostile under Atheris, in a process of its own: libFuzzer never returns.

libFuzzer mutates bytes and keeps those that reach new code of rft; Hypothesis turns bytes into a case of the property.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

NUM_SEEDS, SEED_BYTES = 64, 2048
"""Random inputs that libFuzzer starts from. Hypothesis rejects inputs that are too short for a case."""
MEMORY_MB = 6144
"""Memory of the process at which libFuzzer reports the case."""


def main(name: str, num_cases: int, deadline_s: float, seed: int) -> None:
    """Fuzz a property until it has run the cases; write their number to `result.json` in the working folder.

    Args:
        name: The property, as `test_data:test_rows`.
        num_cases: Number of cases.
        deadline_s: Seconds after which the process ends with fewer cases.
        seed: Seed of the first inputs and of the mutations.
    """
    module, _, function = name.partition(":")
    with atheris.instrument_imports(include=["rft", "graders"]):
        case = getattr(importlib.import_module(f"tests.hostile.{module}"), function).hypothesis.fuzz_one_input
        importlib.import_module("tests.hostile.harness").warm_up()
        folders = {part: Path(part) for part in ("corpus", "work")}
        for folder in folders.values():
            folder.mkdir()
        numbers = random.Random(seed)
        for number in range(NUM_SEEDS):
            (folders["corpus"] / str(number)).write_bytes(numbers.randbytes(SEED_BYTES))
        corpus = str(folders["corpus"].resolve())
        result = Path("result.json").resolve()
        os.chdir(folders["work"])
        options = [
            f"-seed={seed}",
            f"-max_len={2 * SEED_BYTES}",
            "-len_control=0",
            "-timeout=600",  # the alarm of `harmless` comes earlier, and shrinks like a failure
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={result.parent}/",
        ]
        target = _counted(case, result, num_cases, deadline_s)
        atheris.Setup([sys.argv[0], *options, corpus], target, custom_mutator=_fresh_or_mutated)
        atheris.Fuzz()


def _fresh_or_mutated(content: bytes, max_size: int, seed: int) -> bytes:
    """Return an input for the next case: every second one is new, so that the cases stay diverse."""
    numbers = random.Random(seed)
    return numbers.randbytes(SEED_BYTES) if numbers.random() < 0.5 else atheris.Mutate(content, max_size)


def _counted(case: Callable[[bytes], Any], result: Path, num_cases: int, deadline_s: float) -> Callable[[bytes], None]:
    """Return the target of libFuzzer, which ends the process after the last case."""
    done = 0
    ends_at = time.monotonic() + deadline_s

    def run(content: bytes) -> None:
        nonlocal done
        done += case(content) is not None  # None: the bytes are no case
        if done == num_cases or time.monotonic() > ends_at:
            result.write_text(json.dumps({"cases": done}))
            sys.stdout.flush()
            os._exit(0)

    return run


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
