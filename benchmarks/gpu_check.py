"""Check rft on one NVIDIA GPU, part by part, without a network.

    python benchmarks/gpu_check.py learner                the learner: at most 130 seconds
    python benchmarks/gpu_check.py variants               other ways to train and sample: about 2 minutes
    python benchmarks/gpu_check.py engine                 vLLM, and both on one GPU: at most 9 minutes
    python benchmarks/gpu_check.py cluster                optional: whole runs with Ray, and TRL side by side
    python benchmarks/gpu_check.py engine --only seeds    some parts
    python benchmarks/gpu_check.py learner --dry-run      small models on a CPU: checks that every part runs

Each part is a process with its own deadline, and prints one line of JSON: outcome, checks, figures. A part that fails
does not stop the others; a part that did not start reports `not_run` with the reason. The base models have random
weights in Qwen2.5's shapes, so nothing is downloaded. `--wheels FOLDER` first installs the wheels of a folder, for a
machine without rft's libraries. The exit code is 1 if a part failed or did not end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu.plans import PLANS
from gpu.report import Outcome, summary
from gpu.runner import install_wheels, run_parts


def main(words: Sequence[str] | None = None) -> int:
    """Run a plan; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", choices=list(PLANS))
    parser.add_argument("--only", nargs="+", metavar="PART", help="run these parts only")
    parser.add_argument("--work", type=Path, default=Path("gpu_check"), help="folder for models, logs and results")
    parser.add_argument("--wheels", type=Path, help="folder with wheels to install first, without a network")
    parser.add_argument("--limit-s", type=float, help="seconds for all parts (default: the plan's)")
    parser.add_argument("--dry-run", action="store_true", help="shrink everything and run on the CPU")
    parser.add_argument(
        "--list", action="store_true", help="print the parts and the questions that they answer; run nothing"
    )
    arguments = parser.parse_args(words)
    parts, limit_s = PLANS[arguments.plan]
    if unknown := set(arguments.only or ()) - {part.name for part in parts}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(part.name for part in parts)}")
    parts = tuple(part for part in parts if not arguments.only or part.name in arguments.only)
    if arguments.list:
        print("\n".join(f"{part.name} ({part.deadline_s:g} s): {part.question}" for part in parts))
        return 0
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    search = []
    if arguments.wheels:
        search = [work / "site"]
        install_wheels(arguments.wheels, search[0])
    results = []
    with (work / f"{arguments.plan}.jsonl").open("w", encoding="utf-8") as lines:
        for result in run_parts(
            parts, work=work, limit_s=arguments.limit_s or limit_s, dry_run=arguments.dry_run, search=search
        ):
            results.append(result)
            print(result.line(), flush=True)
            print(result.line(), file=lines, flush=True)
    print(summary(results), file=sys.stderr)
    return int(any(result.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) for result in results))


if __name__ == "__main__":
    sys.exit(main())
