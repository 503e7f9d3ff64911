"""Compares the throughput of `learner=sft` with that of TRL's SFTTrainer on the same batches.

    python benchmarks/sft_throughput.py                      the embedded model and a model with 10.7M weights
    python benchmarks/sft_throughput.py tiny --pairs 41      one model, more pairs of blocks

Both train in this process, in turns: a block of ten steps of one, then of the other, and in the reverse order after
that. A block of rft includes all that the learner does in a run: the fingerprint of the policy after every step, and
once a block, like a run that is measured every ten steps, a publication with scored canaries. TRL's trainer runs its
own loop over a dataset of the same token ids and labels, in a thread that waits between its blocks; gradient
checkpointing, which TRL enables by default, is off. Each pair of blocks gives one ratio. The losses of both must agree,
and the benchmark ends with exit code 1 if they do not, or if the ratio is below 0.95.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import models, report
from harness.local_learner import local_learner

from rft.config import RunConfig
from rft.config.adapters import LoraAdapterConfig
from rft.config.commands import load_training
from rft.data.demonstration_records import TokenRow
from rft.learning.spec import LocalLearner
from rft.run.demonstration_loop import demonstrations_of

BLOCK_STEPS = 10
"""Steps of a block. TRL logs the mean loss of as many steps by default."""
WARM_UP_BLOCKS = 2
"""First blocks of either side that are not timed."""
REQUIRED = 0.95
"""Least ratio of rft's throughput to TRL's."""
LOSS_TOLERANCE = 1e-3
"""Largest relative difference of the losses of a block; both sides add the same numbers in another order."""
TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The blocks of one side, in order."""

    seconds: list[float]
    """Duration of each block."""
    losses: list[float]
    """Mean loss of each block."""


def main() -> None:
    """Measure the models of the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny", "medium"], help="tiny, medium; default: both")
    parser.add_argument("--pairs", type=int, default=21, help="pairs of blocks, at least 6 (default: 21)")
    parser.add_argument("--rows", type=int, default=8, help="demonstrations of a step (default: 8)")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    rows, slow = [], []
    with tempfile.TemporaryDirectory(prefix="rft-sft-") as temporary:
        folder = Path(temporary)
        for name in given.models:
            model = models.TINY if name == "tiny" else models.make_medium(folder / "medium")
            config = configuration(model, folder / f"run-{name}", rows=given.rows, pairs=given.pairs)
            row, ratio = compare(name, config, folder / f"trl-{name}")
            rows.append(row)
            slow += [f"{name}: {ratio:.3f}"] if ratio < REQUIRED else []
    print("\n" + report.table(["model", "rft, tokens/s", "TRL, tokens/s", "rft / TRL", "losses differ by"], rows))
    if slow:
        raise SystemExit(f"rft has less than {REQUIRED} of TRL's throughput: {', '.join(slow)}")


def configuration(model: Path, folder: Path, *, rows: int, pairs: int) -> RunConfig:
    """Return the configuration of rft's side: supervised fine-tuning on the demonstrations of all embedded families."""
    data = folder.with_suffix(".jsonl")
    files = sorted((models.EMBEDDED / "tasks").glob("*/demonstrations.jsonl"))
    data.write_text("".join(file.read_text(encoding="utf-8") for file in files), encoding="utf-8")
    keys = {
        "model.path": model,
        "data.train": data,
        "loop.steps": (WARM_UP_BLOCKS + pairs) * BLOCK_STEPS,
        "loop.prompts_per_step": rows,
        "learner.schedule": "constant_with_warmup",
    }
    words = ["experiment=quickstart", "learner=sft", "logging=none", *(f"{key}={keys[key]}" for key in keys)]
    return load_training(words, str(folder))


def compare(name: str, config: RunConfig, folder: Path) -> tuple[list[str], float]:
    """Train both sides in turns; return the row of the table and the median ratio."""
    learner, prepared = local_learner(config)
    assert prepared.rows is not None  # learner=sft has demonstrations
    order = demonstrations_of(config, prepared.tasks.train, prepared.rows)
    batches = [order.of_step(step) for step in range(1, config.loop.steps + 1)]
    trl = TrlSide(config, prepared.model, batches, folder)
    ours, theirs = in_turns(RftSide(learner, batches).block, trl.block, len(batches) // BLOCK_STEPS)
    learner.close()
    difference = max(abs(a - b) / b for a, b in zip(ours.losses, theirs.losses, strict=True))
    if difference > LOSS_TOLERANCE:
        raise SystemExit(f"{name}: the losses of the two sides differ by {difference:.2g}, so they did other work")
    timed = slice(WARM_UP_BLOCKS, None)
    ratios = report.ratios(theirs.seconds[timed], ours.seconds[timed])
    tokens = [sum(len(row.ids) for batch in block for row in batch) for block in blocks_of(batches)]
    speeds = [statistics.median(report.ratios(tokens[timed], [*side.seconds[timed]])) for side in (ours, theirs)]
    cells = [f"{speed:,.0f}" for speed in speeds]
    return [name, *cells, report.median_interval(ratios), f"{difference:.1g}"], statistics.median(ratios)


def blocks_of(batches: Sequence[Sequence[TokenRow]]) -> list[Sequence[Sequence[TokenRow]]]:
    """Return the batches of each block."""
    return [batches[first : first + BLOCK_STEPS] for first in range(0, len(batches), BLOCK_STEPS)]


def in_turns(
    ours: Callable[[int], tuple[float, float]], theirs: Callable[[int], tuple[float, float]], num_blocks: int
) -> tuple[Blocks, Blocks]:
    """Let both sides train one block after another, every second pair in the reverse order."""
    results = (Blocks(seconds=[], losses=[]), Blocks(seconds=[], losses=[]))
    for block in range(num_blocks):
        for side in (0, 1) if block % 2 == 0 else (1, 0):
            seconds, loss = (ours, theirs)[side](block)
            results[side].seconds.append(seconds)
            results[side].losses.append(loss)
    return results


class RftSide:
    """rft's learner.

    Args:
        learner: The learner of demonstrations.
        batches: Rows of each step.
    """

    def __init__(self, learner: LocalLearner, batches: Sequence[Sequence[TokenRow]]) -> None:
        self._learner: Any = learner  # its protocol names graded groups
        self._blocks = blocks_of(batches)

    def block(self, number: int) -> tuple[float, float]:
        """Train a block; return its seconds and its mean loss."""
        started = time.perf_counter()
        losses = []
        for batch in self._blocks[number]:
            losses.append(self._learner.learn(batch)["loss"])
            self._learner.policy()
        self._learner.publish()
        return time.perf_counter() - started, statistics.fmean(losses)


class TrlSide:
    """TRL's SFTTrainer in a thread, which waits after each block.

    Args:
        config: Configuration of rft's side.
        model: Folder of the base model.
        batches: Rows of each step.
        folder: Folder for TRL's files.
    """

    def __init__(self, config: RunConfig, model: Path, batches: Sequence[Sequence[TokenRow]], folder: Path) -> None:
        self._trainer = make_trainer(config, model, batches, folder)
        self._go: queue.Queue[None] = queue.Queue()
        self._done: queue.Queue[BaseException | None] = queue.Queue()
        self._trainer.add_callback(_pause(self._go, self._done))
        threading.Thread(target=self._train, name="trl", daemon=True).start()
        self._wait()

    def block(self, number: int) -> tuple[float, float]:
        """Train a block; return its seconds and its mean loss, which TRL logs after the block."""
        started = time.perf_counter()
        self._go.put(None)
        self._wait()
        seconds = time.perf_counter() - started
        losses = [line["loss"] for line in self._trainer.state.log_history if "loss" in line]
        return seconds, losses[number]

    def _wait(self) -> None:
        failure = self._done.get(timeout=TIMEOUT_S)
        if failure is not None:
            raise failure

    def _train(self) -> None:
        try:
            self._trainer.train()
        except BaseException as failure:  # the waiting thread raises it
            self._done.put(failure)


def _pause(go: queue.Queue[None], done: queue.Queue[BaseException | None]) -> Any:
    """Return a callback that ends each block with its log, and waits for the next one."""
    from transformers import TrainerCallback

    class Pause(TrainerCallback):  # type: ignore[misc]  # Transformers is not followed
        """Waits before the first block and after each block."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._pause()

        def on_log(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step % BLOCK_STEPS == 0 and state.global_step < state.max_steps:
                self._pause()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            done.put(None)

        def _pause(self) -> None:
            done.put(None)
            go.get(timeout=TIMEOUT_S)

    return Pause()


def make_trainer(config: RunConfig, model: Path, batches: Sequence[Sequence[TokenRow]], folder: Path) -> Any:
    """Return TRL's trainer for the same steps as rft's learner."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    rows = [row for batch in batches for row in batch]
    labels = [[id if on else -100 for id, on in zip(row.ids, row.trained, strict=True)] for row in rows]
    learner = config.learner
    assert isinstance(learner.adapter, LoraAdapterConfig)  # the default
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=len(batches),
            per_device_train_batch_size=len(batches[0]),
            learning_rate=learner.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            seed=config.seed,
            max_length=None,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            logging_steps=BLOCK_STEPS,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": labels}),
        peft_config=LoraConfig(
            r=learner.adapter.rank,
            lora_alpha=learner.adapter.alpha,
            lora_dropout=learner.adapter.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


if __name__ == "__main__":
    main()
