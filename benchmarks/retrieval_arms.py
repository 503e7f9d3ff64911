"""Measures what tuning and passages do for a task of facts: four arms of the example `lookup`, for several seeds.

    python benchmarks/retrieval_arms.py                              # seeds 0 to 2; a table in Markdown
    python benchmarks/retrieval_arms.py sampler=transformers --seeds 0

The script fails if the tuned policy with passages is right on less than `MIN_SCORE` of all tasks, or abstains on less
than `MIN_SCORE` of the tasks whose passage is left out, or if its interval touches that of another arm.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness import report
from harness.commands import read_summary, run_rft

from rft.metrics.comparison import Comparison
from rft.metrics.intervals import Estimate
from rft.run_folder.arms import LEFT_OUT, TUNED, WITH

BEST = TUNED + WITH
MIN_SCORE = 0.9


def main() -> None:
    """Run the example with each seed, print the arms, and fail if a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=range(3))
    parser.add_argument("keys", nargs="*", help="further keys of rft train, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows, missed = [], []
    for seed in given.seeds:
        with tempfile.TemporaryDirectory(prefix="rft-lookup-") as folder:
            run = Path(folder) / "run"
            done = run_rft("train", "experiment=lookup", f"seed={seed}", f"output_dir={run}", *given.keys)
            compared = Comparison.from_json(read_summary(run)["arms"])
        parts = {f"all {compared.num_tasks} tasks": compared.means, **compared.subsets}
        rows += [
            [str(seed), name, *(means[name].text() for means in parts.values()), f"{done.wall_s:.0f}"]
            for name in compared.means
        ]
        missed += [f"seed {seed}: {problem}" for problem in problems(compared)]
        print("\n".join(" | ".join(row) for row in rows[-len(compared.means) :]), flush=True)
    print("\n" + report.table(["seed", "arm", *parts, "command, s"], rows))
    if missed:
        raise SystemExit("\n".join(missed))


def problems(compared: Comparison) -> list[str]:
    """Return the bars that a run misses."""
    best, abstained = compared.means[BEST], compared.subsets[LEFT_OUT][BEST]
    found = []
    if best.mean < MIN_SCORE:
        found.append(f"{BEST} is right on {best.mean:.3f} of the tasks, below {MIN_SCORE}")
    if abstained.mean < MIN_SCORE:
        found.append(f"{BEST} abstains on {abstained.mean:.3f} of the tasks without their passage, below {MIN_SCORE}")
    return found + touching(best, {name: value for name, value in compared.means.items() if name != BEST})


def touching(best: Estimate, others: Mapping[str, Estimate]) -> list[str]:
    """Return the arms whose interval is not below that of the best one."""
    return [
        f"the interval of {name} touches that of {BEST}"
        for name, other in others.items()
        if best.ci95 is None or other.ci95 is None or other.ci95[1] >= best.ci95[0]
    ]


if __name__ == "__main__":
    main()
