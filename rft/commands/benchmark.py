"""`rft benchmark`: a base model and its adapter on tasks of lm-evaluation-harness."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rich.console import Console

from rft.commands.compare import print_result


def benchmark(words: list[str]) -> int:
    """Measure, write the samples, and print the comparison; return the exit code, 0."""
    from rft.api.benchmark import BenchmarkOptions
    from rft.api.benchmark import benchmark as run_benchmark

    given = vars(parser().parse_args(words))
    options = BenchmarkOptions(**given | {"tasks": tuple(given["tasks"])})
    result = run_benchmark(options, partial(print, file=sys.stderr))
    if result is not None:
        print_result(result, Console())
    print(f"samples: {options.out}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(
        prog="rft benchmark",
        description="Measure a base model and its adapter on tasks of lm-evaluation-harness, paired by sample.",
    )
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="names of tasks, or .yaml files of tasks")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for the samples of both models")
    parser.add_argument("--adapter", metavar="RUN", help="a run folder or an adapter folder (default: only the base)")
    parser.add_argument("--model", help="base model, as in model.path of rft train (default: the adapter's)")
    parser.add_argument("--include", metavar="FOLDER", help="a folder with further tasks")
    parser.add_argument("--limit", type=int, metavar="N", help="samples of each task, from the first (default: all)")
    parser.add_argument("--num-fewshot", type=int, metavar="N", help="solved examples before each prompt")
    parser.add_argument(
        "--format",
        choices=("chat", "raw"),
        help="raw sends the prompts without a chat template (default: the format of the adapter's run)",
    )
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="completions at once (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="seed, where a task samples (default 0)")
    parser.add_argument(
        "--sampler", choices=("vllm", "transformers"), default="vllm", help="engine that samples (default vllm)"
    )
    return parser
