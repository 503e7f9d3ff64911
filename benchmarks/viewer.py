"""Generates a run of 500,000 rollouts, and measures how long `rft view` takes to index it and to show its pages.

    python benchmarks/viewer.py [folder]        about 2 GB, removed at the end unless a folder is given

The recorder writes the run, so its segments and its index are those of a real one. A second copy has plain gzip
segments and no index, as older runs have. Times are those of requests to the server.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any

from harness import report

from rft.api.view import open_viewer, view
from rft.run_folder.recorder import Recorder
from rft.run_folder.rollout_index import INDEX
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, StepReport, StopReason, Task

WORDS = [f"{start}{end}" for start in ("the", "bri", "lon", "mar", "sto", "ve") for end in ("", "n", "ra", "sk", "to")]
NUM_STEPS, NUM_GROUPS, GROUP = 500, 125, 8
PAGES = {
    "first page": {},
    "the middle": {"from_step": "250"},
    "newest first": {"order": "newest"},
    "highest rewards of all steps": {"order": "highest"},
    "one task of all steps": {"task": "task-7"},
    "a common word": {"words": "the"},
    "a word of the last step": {"words": "needle500"},
}


def main() -> None:
    """Generate, measure, and print the tables."""
    print(f"{report.machine()}\n")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(sys.argv[1]) if sys.argv[1:] else Path(temporary)
        new, old = place / "new", place / "old"
        if not new.exists():
            print(f"writing {NUM_STEPS * NUM_GROUPS * GROUP:,} rollouts took {generate(new):.0f} s")
            make_old(new, old)
        sizes = {name: sum(path.stat().st_size for path in new.glob(name)) for name in ("rollouts*", INDEX)}
        print(f"rollouts {sizes['rollouts*'] / 1e6:.0f} MB, of which index {sizes[INDEX] / 1e6:.0f} MB\n")
        columns = {"recorded with an index": measure(new), "an older run": measure(old)}
        titles = next(iter(columns.values()))
        rows = [[title, *(f"{column[title]:.2f}" for column in columns.values())] for title in titles]
        print(report.table(["seconds", *columns], rows))


def generate(folder: Path) -> float:
    """Record a run; return the seconds that the recorder took."""
    folder.mkdir(parents=True)
    recorder = Recorder(folder, completions_with_tokens=64)
    seconds = 0.0
    for step in range(1, NUM_STEPS + 1):
        groups = [group(step, number) for number in range(NUM_GROUPS)]
        began = time.perf_counter()
        recorder.rollouts(groups, step=step, phase="train")
        seconds += time.perf_counter() - began
        metrics = {"reward/mean": step / NUM_STEPS, "sync/proved": 1.0, "learner/loss": 1 / step}
        policy = Policy(version=step, fingerprint="0" * 16)
        recorder.metrics(StepReport(step=step, policy=policy, metrics=metrics, seconds={"learn": 0.5}))
    recorder.close()
    return seconds


def group(step: int, number: int) -> GradedGroup:
    """A group whose completions have about 100 words."""
    task = Task(
        id=f"task-{(step * NUM_GROUPS + number) % 5000}",
        messages=({"role": "user", "content": " ".join(WORDS[(number * 31 + at) % len(WORDS)] for at in range(60))},),
        item={"answer": str(number)},
        split=Split.TRAIN,
    )
    rollouts, grades = [], []
    for index in range(GROUP):
        start = step * 7919 + number * 104729 + index * 1299709
        words = [WORDS[(start + at * at) % len(WORDS)] for at in range(100)]
        ids = tuple((start + at) % 50_000 for at in range(130))
        rollouts.append(
            Rollout(
                task_id=task.id,
                index=index,
                prompt_ids=(1,) * 80,
                completion_ids=ids,
                logprobs=tuple(-(one % 97) / 20 for one in ids),
                text=" ".join([*words, f"needle{step}" if number == 60 else "end"]),
                stop=StopReason.STOP,
                policy=Policy(version=step - 1, fingerprint="0" * 16),
            )
        )
        reward = float(start % 3 == 0)
        score = Score(value=reward, answer=str(start), reason="equal to the reference" if reward else "another number")
        grades.append(Grade(scores={"correct": score}, reward=reward))
    return GradedGroup(task=task, rollouts=tuple(rollouts), grades=tuple(grades))


def make_old(new: Path, old: Path) -> None:
    """Copy a run as older versions wrote it: each segment compressed as a whole, and no index."""
    shutil.copytree(new, old, ignore=shutil.ignore_patterns(INDEX))
    for path in old.glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 6, mtime=0))


def measure(run: Path) -> dict[str, float]:
    """Return the seconds of each step of looking at a run."""
    seconds = {}
    began = time.perf_counter()
    with open_viewer(str(run), port=0, tell=print) as server:
        seconds["until the server answers"] = time.perf_counter() - began
        Thread(target=server.serve_forever, daemon=True).start()
        seconds["the page with its overview"] = asked(server.url)[0]
        for name, values in PAGES.items():
            spent, rows = first_page(server.url, values)
            seconds[f"{name} ({rows} rows)"] = spent
        middle = NUM_STEPS * NUM_GROUPS * GROUP // 2
        seconds["one completion"] = asked(f"{server.url}api/rollout?run=0&row={middle}")[0]
        server.shutdown()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = view(str(run), out=f"{folder}/view.html", tell=print)
        seconds[f"a file of 5,000 ({path.stat().st_size / 1e6:.0f} MB)"] = time.perf_counter() - began
    return seconds


def first_page(url: str, values: dict[str, str]) -> tuple[float, int]:
    """Ask until a page of 50 is full, as the page does; return the seconds and the number of rows."""
    place, rows, total = 0, 0, 0.0
    while True:
        query = urllib.parse.urlencode({**values, "run": 0, "place": place, "limit": 50 - rows})
        spent, answer = asked(f"{url}api/rollouts?{query}")
        total, rows, place = total + spent, rows + len(answer["rows"]), answer["next"]
        if rows >= 50 or answer["is_complete"]:
            return total, rows


def asked(url: str) -> tuple[float, dict[str, Any]]:
    """Return the seconds of a request, and its answer; of the page, no answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(url) as answer:
        content = answer.read()
    return time.perf_counter() - began, json.loads(content) if content.startswith(b"{") else {}


if __name__ == "__main__":
    main()
