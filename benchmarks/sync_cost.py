"""Measures the cost of a sync and of its proof by the size of the adapter.

    python benchmarks/sync_cost.py [--model tiny|medium] [--ranks 1 4 16 64] [--serve adapter merged]

Each row is a run of `rft train`: the bytes shipped, the seconds of publication and load and of the proof, and their
share of a whole step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import models, report
from harness.arms import Arm, Job, run_arm

TIMEOUT_S = 900.0
COLUMNS = ("sync/bytes", "sync/load_s", "sync/proof_s")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["tiny", "medium"], default="medium", help="base model (default: medium)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 4, 16, 64], help="ranks of the adapter")
    parser.add_argument("--serve", nargs="+", default=["adapter", "merged"], help="values of sampler.serve")
    parser.add_argument("--steps", type=int, default=6, help="steps of a run, including 2 of warm-up (default: 6)")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="rft-sync-") as temporary:
        folder = Path(temporary)
        job = make_job(given.model, folder, given.steps)
        for serve in given.serve:
            for rank in given.ranks:
                rows.append([job.name, serve, str(rank), *measure(replace(job, lora_rank=rank), serve, folder)])
                print(rows[-1], flush=True)
    head = [
        "model",
        "serve",
        "rank",
        "bytes shipped",
        "adapter on disk",
        "load, s",
        "proof, s",
        "sync in all, s",
        "step, s",
        "share",
    ]
    print("\n" + report.table(head, rows))


def make_job(model: str, folder: Path, steps: int) -> Job:
    """Return the tiny or the medium job."""
    job = Job(name=model, model=models.TINY, tasks=models.SUMS, score="answer", steps=steps, warm_up_steps=2)
    if model == "tiny":
        return job
    medium = models.make_medium(folder / "medium")
    return replace(
        job, model=medium, score="digits", max_completion_tokens=256, max_context_tokens=384, learning_rate=1e-4
    )


def measure(job: Job, serve: str, folder: Path) -> list[str]:
    """Run with one rank and one way to serve; return the row's cells."""
    place = folder / f"{serve}-{job.lora_rank}"
    outcome = run_arm(Arm(name=serve, side="rft", options={"sampler.serve": serve}), job, place, timeout_s=TIMEOUT_S)
    num_bytes, load_s, proof_s = (report.fact([outcome], name, job.warm_up_steps) for name in COLUMNS)
    if num_bytes is None or load_s is None or proof_s is None:
        raise SystemExit(f"the run does not report {', '.join(COLUMNS)}; it has {json.dumps(sorted(outcome.facts))}")
    sync_s = report.phases([outcome], job.warm_up_steps)["sync"]
    step_s = report.step_s(outcome, job)
    on_disk = (place / "run" / "adapter" / "adapter_model.safetensors").stat().st_size
    return [
        f"{num_bytes:,.0f}",
        f"{on_disk:,}",
        f"{load_s:.4f}",
        f"{proof_s:.4f}",
        f"{sync_s:.4f}",
        f"{step_s:.3f}",
        f"{sync_s / step_s:.1%}",
    ]


if __name__ == "__main__":
    main()
