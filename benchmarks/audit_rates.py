"""Measures how many planted faults of graders `rft audit` detects, and how many sound graders it fails.

    python benchmarks/audit_rates.py [--half setting|publishing|both] [--only faulty|sound] [--timeout-s 5]

The faults are in `harness/planted_faults.py`. The sound graders are those of `harness/sound_graders.py` and some of
rft's own. The CRC-32 of a name assigns its grader to one of two halves. Thresholds of probes may be chosen on the
setting half; the rates of the publishing half are published. A fault is detected if the audit fails and `rft train`
therefore refuses the grader; warnings count separately. The exit code is 1 if the audit fails a sound grader of the
publishing half.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from harness import planted_faults, sound_graders

import rft
from rft.metrics.intervals import estimate

TIMEOUT_S = 5.0
"""Default deadline of a grader. A busy machine needs a longer one, or slows sound graders beyond it."""
NUM_TASKS = 24

CITIES = [
    "Paris", "Rome", "Oslo", "Lima", "Cairo", "Nairobi", "Tokyo", "Santiago", "Madrid", "Vienna", "Athens", "Ankara",
    "Bogota", "Warsaw", "Dublin", "Lisbon", "Prague", "Helsinki", "Jakarta", "Manila", "Hanoi", "Quito", "Accra",
    "Dakar",
]  # fmt: skip

PREFIXES = ("", "New ", "Old ", "Upper ", "Lower ", "Port ")
"""Before the names of further cities, which only `watch_rates.py` uses."""

BUILT_IN: Mapping[str, tuple[str, dict[str, Any]]] = {
    "exact": ("capitals", {"main": {"use": "exact"}}),
    "contains": ("capitals", {"main": {"use": "contains", "column": "answer"}}),
    "numeric": ("sums", {"main": {"use": "numeric"}}),
    "math": ("sums", {"main": {"use": "math"}}),
    "multiple_choice": ("choices", {"main": {"use": "multiple_choice"}}),
    "json_match": ("records", {"main": {"use": "json_match"}}),
    "numeric and style": (
        "sums",
        {"main": {"use": "numeric"}, "style": {"use": f"{sound_graders.__file__}:in_tags", "weight": 0.2}},
    ),
    "math and length": (
        "sums",
        {"main": {"use": "math"}, "brief": {"use": "length", "free_tokens": 50, "max_tokens": 500, "weight": 0.1}},
    ),
}
"""Sound graders of rft: their tasks and entries."""


class Planted(NamedTuple):
    """A grader to audit."""

    name: str
    tasks: str
    entries: dict[str, Any]
    is_sound: bool

    @property
    def half(self) -> str:
        """`setting` or `publishing`, from a hash of the name."""
        return ("setting", "publishing")[zlib.crc32(self.name.encode()) % 2]


class Verdict(NamedTuple):
    """The result of a grader's audit."""

    grader: Planted
    failed: tuple[str, ...]
    """Names of the probes that failed."""
    warned: tuple[str, ...]
    """Names of the probes that warned."""


def graders(timeout_s: float) -> list[Planted]:
    """Return all graders, the planted faults first."""
    planted = [
        Planted(name, tasks, {"main": {"use": f"{module.__file__}:{name}", "timeout_s": timeout_s}}, is_sound)
        for module, is_sound in ((planted_faults, False), (sound_graders, True))
        for name, tasks in module.GRADERS.items()
    ]
    built_in = {
        name: (tasks, {grader: {**entry, "timeout_s": timeout_s} for grader, entry in entries.items()})
        for name, (tasks, entries) in BUILT_IN.items()
    }
    return planted + [Planted(name, tasks, entries, True) for name, (tasks, entries) in built_in.items()]


def rows(kind: str, *, count: int = NUM_TASKS) -> list[dict[str, Any]]:
    """Return the first tasks of a kind, prompts with references. No question contains its answer."""
    numbers = range(count)
    if kind == "sums":
        terms = [(13 + 7 * n, 58 - n if n < 50 else 58 + n) for n in numbers]
        return [{"prompt": f"What is {one} + {other}?", "answer": str(one + other)} for one, other in terms]
    cities = [PREFIXES[n // NUM_TASKS] + CITIES[n % NUM_TASKS] for n in numbers]
    if kind == "capitals":
        return [{"prompt": f"What is the capital of country {n + 1}?", "answer": cities[n]} for n in numbers]
    if kind == "choices":
        options = [[CITIES[(n + shift) % NUM_TASKS] for shift in range(4)] for n in numbers]
        return [
            {"prompt": f"Which city is number {n + 1}?", "choices": options[n], "answer": "ABCD"[n % 4]}
            for n in numbers
        ]
    people = [{"name": cities[n], "age": 20 + n, "city": CITIES[-1 - n % NUM_TASKS]} for n in numbers]
    return [{"prompt": f"Describe person {n + 1} in JSON.", "answer": people[n]} for n in numbers]


def audited(grader: Planted) -> Verdict:
    """Audit one grader like `rft audit`."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder) / "tasks.jsonl"
        tasks.write_text("".join(json.dumps(row) + "\n" for row in rows(grader.tasks)), encoding="utf-8")
        audit = rft.audit(
            {
                "data": {"tasks": str(tasks)},
                "graders": grader.entries,
                "output_dir": f"{folder}/audit",
                "grading": {"audit_folder": None},
            },
            quiet=True,
        )
        warned = tuple(probe["name"] for probe in audit.report["probes"] if probe["result"] == "warned")
        return Verdict(grader, tuple(audit.failed_probes), warned)


def share(part: int, whole: int) -> str:
    """Return a share in percent with its 95% interval."""
    if not whole:
        return "-"
    rate = estimate([1.0] * part + [0.0] * (whole - part))
    low, high = rate.ci95 or (0.0, 1.0)
    return f"{part} of {whole} ({100 * low:.0f} to {100 * high:.0f}%)"


def print_table(verdicts: list[Verdict]) -> None:
    """Return a row for each half, then the undetected faults and the failed sound graders."""
    print("| half | faults detected | only warned of | sound graders failed |\n| --- | --- | --- | --- |")
    for half in ("setting", "publishing"):
        faulty = [one for one in verdicts if one.grader.half == half and not one.grader.is_sound]
        sound = [one for one in verdicts if one.grader.half == half and one.grader.is_sound]
        if not faulty and not sound:
            continue
        detected = sum(bool(one.failed) for one in faulty)
        warned = sum(bool(one.warned) and not one.failed for one in faulty)
        false = sum(bool(one.failed) for one in sound)
        print(f"| {half} | {share(detected, len(faulty))} | {warned} | {share(false, len(sound))} |")
    for one in verdicts:
        if bool(one.failed) == one.grader.is_sound:
            kind = "sound grader failed" if one.grader.is_sound else "fault not detected"
            probes = one.failed or one.warned
            print(f"- {kind} ({one.grader.half}): {one.grader.name}{': ' * bool(probes)}{', '.join(probes)}")


def main() -> None:
    """Audit the graders; print the table, and the result of each audit as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--half", choices=("setting", "publishing", "both"), default="both")
    parser.add_argument("--only", choices=("faulty", "sound"), help="audit only these graders (default: all)")
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="deadline of a grader (default: 5)")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    chosen = [
        one
        for one in graders(given.timeout_s)
        if given.half in (one.half, "both") and given.only != ("faulty" if one.is_sound else "sound")
    ]
    started = time.monotonic()
    with ProcessPoolExecutor(given.workers) as pool:
        verdicts = list(pool.map(audited, chosen))
    for one in verdicts:
        print(
            json.dumps({"grader": one.grader.name, "half": one.grader.half, "failed": one.failed, "warned": one.warned})
        )
    print(f"\n{len(verdicts)} audits in {time.monotonic() - started:.0f} s\n")
    print_table(verdicts)
    sys.exit(int(any(one.failed for one in verdicts if one.grader.is_sound and one.grader.half == "publishing")))


if __name__ == "__main__":
    main()
