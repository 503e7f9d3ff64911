"""A quantized base model (`learner.base`): the memory of the learner's model, and runs of the quickstart on it.

    python benchmarks/quantized_base.py memory            a Llama with 135 million random weights, half a minute
    python benchmarks/quantized_base.py runs --seeds 0    the quickstart with nf4 and int8, about two minutes each

The first part loads the model as the learner does, each time in a process of its own, and prints the bytes of its
weights and the growth of the process (RSS). The second part prints the largest difference of log-probabilities between
learner and engine over all steps, held-out scores, and those of the adapter on the original base model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import models, report

SHAPE = {"hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocabulary": 49_152}
"""Sizes of SmolLM2-135M."""
METHODS = ("float32", "int8", "nf4")
TIMEOUT_S = 900.0


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["memory", "runs", "load"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=METHODS[1:], default=METHODS[1:])
    parser.add_argument("--load", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "load":
        method, folder = arguments.load
        print(json.dumps(load(method, Path(folder))))
        return
    print(f"{report.machine()}\n", flush=True)
    if arguments.part == "memory":
        print(memory_table())
        return
    with tempfile.TemporaryDirectory(prefix="rft-quantized-") as folder:
        rows = [run(method, seed, Path(folder)) for method in arguments.methods for seed in arguments.seeds]
    print(report.table([*COLUMNS], rows))


def memory_table() -> str:
    """Load the random model in each format, and return a table."""
    with tempfile.TemporaryDirectory(prefix="rft-quantized-") as folder:
        models.make_random(Path(folder), SHAPE)
        measured = {}
        for method in METHODS:
            command = [sys.executable, __file__, "load", "--load", method, folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True)
            measured[method] = json.loads(done.stdout.splitlines()[-1])
    whole = measured["float32"]["weights"]
    rows = [
        [
            method,
            megabytes(one["weights"]),
            f"{one['weights'] / whole:.3f}",
            *map(megabytes, (one["rss"], one["forecast"])),
        ]
        for method, one in measured.items()
    ]
    return report.table(["base model", "weights, MB", "of float32", "growth of RSS, MB", "forecast, MB"], rows)


def megabytes(num_bytes: int) -> str:
    """Format bytes in millions."""
    return f"{num_bytes / 1e6:.0f}"


def load(method: str, folder: Path) -> dict[str, int]:
    """Load a model as the learner does; return bytes of its weights and scales, growth of the process, and forecast."""
    import gc

    import psutil
    import torch
    from transformers import AutoModelForCausalLM

    from rft.imports import prepare_bitsandbytes
    from rft.memory.learner import weight_bytes
    from rft.memory.model_shape import read_shape

    prepare_bitsandbytes(is_used=True)
    from rft.learning.quantized_base import load_quantized

    process = psutil.Process()
    before = process.memory_info().rss
    base: Any = None if method == "float32" else method
    if base is None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        model = load_quantized(folder, base, dtype=torch.float32, device="cpu")
    for weight in model.parameters():
        weight.sum()  # so that mapped weights count
    gc.collect()
    scales = [
        getattr(weight, "SCB", None) if base == "int8" else getattr(weight, "quant_state", None)
        for weight in model.parameters()
    ]
    of_scales = sum(scale.nbytes if base == "int8" else scale.absmax.nbytes for scale in scales if scale is not None)
    return {
        "weights": sum(weight.nbytes for weight in model.parameters()) + of_scales,
        "rss": process.memory_info().rss - before,
        "forecast": weight_bytes(read_shape(folder), dtype="float32", base=base),
    }


COLUMNS = (
    "base", "seed", "largest gap of learner and engine", "syncs proved", "before", "after", "on the original",
    "adapter on both: mean gap", "adapter's mean effect",
)  # fmt: skip


def run(method: str, seed: int, folder: Path) -> list[str]:
    """Train the quickstart on a quantized base model, measure it on the original, and return a row."""
    from rft.metrics.intervals import Estimate

    here = folder / f"{method}-{seed}"
    rft("train", "experiment=quickstart", f"learner.base={method}", f"seed={seed}", f"output_dir={here}")
    summary = json.loads((here / "summary.json").read_text())
    lines = [json.loads(line)["metrics"] for line in (here / "metrics.jsonl").read_text().splitlines()]
    gaps = [line["sync/canary_gap_max"] for line in lines if "sync/canary_gap_max" in line]
    on_original = folder / f"{method}-{seed}-on-original"
    words = ["data=chain_sum", "graders.correct.use=reasoning_gym", f"adapter={here}", "model.path=embedded:tiny"]
    rft("evaluate", *words, f"output_dir={on_original}")
    original = Estimate.from_json(json.loads((on_original / "summary.json").read_text()))
    before, after = (Estimate.from_json(summary["eval"][name]).text() for name in ("before", "after"))
    compared = summary["original_base"]
    print(f"{method}, seed {seed}: gaps {' '.join(f'{gap:.1e}' for gap in gaps)}", flush=True)
    return [
        method,
        str(seed),
        f"{max(gaps):.1e}",
        f"{summary['syncs_proved']} of {summary['syncs']}",
        before,
        after,
        original.text(),
        f"{compared['mean_gap']:.3f}",
        f"{compared['mean_effect']:.3f}",
    ]


def rft(*words: str) -> None:
    """Run a command of rft."""
    command = [sys.executable, "-m", "rft.cli", *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, check=True)


if __name__ == "__main__":
    main()
