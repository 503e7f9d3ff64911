"""The tools of all parts: sizes, base models, specs of engines and learners, and measurements of the device."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import models

from gpu.report import NotRun
from rft.config import RunConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.learning.spec import LearnerSpec
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, StopReason, Task

RANK, ALPHA = 32, 64
"""Of every adapter."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The amount of work in the parts."""

    dtype: str
    """Of models and engines."""
    top_logit: float
    """Mean largest logit of the base models; see `make_qwen`."""
    vocabulary: int
    """Number of tokens; the last one ends a completion."""
    max_context_tokens: int
    """Of every engine."""
    gap_lengths: tuple[int, ...]
    """Lengths of the scored sequences, tokens."""
    num_probes: int
    """Number of sequences that are scored through the prefix cache."""
    num_busy: tuple[int, ...]
    """Numbers of other requests in flight during the scoring."""
    num_completions: int
    """Completions of a batch."""
    completion_tokens: int
    """Length of each."""
    divisor: int
    """Divisor of the tokens of a learner's step."""


FULL = Size(
    dtype="bfloat16",
    top_logit=20.0,
    vocabulary=models.QWEN_VOCABULARY,
    max_context_tokens=1024,
    gap_lengths=(36, 128, 512),
    num_probes=200,
    num_busy=(0, 130, 400),
    num_completions=320,
    completion_tokens=256,
    divisor=1,
)
DRY = Size(
    dtype="float32",
    top_logit=8.0,
    vocabulary=models.DRY_VOCABULARY,
    max_context_tokens=128,
    gap_lengths=(36, 48),
    num_probes=4,
    num_busy=(0, 6),
    num_completions=6,
    completion_tokens=8,
    divisor=16,
)


class Bench:
    """The machine as the parts see it.

    Args:
        work: Folder of the base models.
        dry: Whether everything is small and runs on the CPU.
    """

    def __init__(self, work: Path, *, dry: bool) -> None:
        self.work = work
        self.dry = dry
        self.size = DRY if dry else FULL
        self.device = "cpu" if dry else "cuda"
        self.num_threads = 1 if dry else (os.cpu_count() or 1)

    def folder(self, shape: str) -> Path:
        """Return the folder of a shape's base model, which may not exist yet."""
        return self.work / f"qwen-{shape}"

    def model(self, shape: str) -> Path:
        """Return the folder of a base model.

        Raises:
            NotRun: The model is missing.
        """
        folder = self.folder(shape)
        if not (folder / "tokenizer.json").exists():
            raise NotRun(f"the base model is missing: {folder}")
        return folder

    def engine_spec(self, shape: str, *, serve: Any = "adapter", **engine: Any) -> EngineSpec:
        """Return the spec of an engine on 40% of the GPU.

        Args:
            shape: Shape of the base model.
            serve: `adapter` or `merged`.
            engine: Arguments of vLLM.
        """
        on_gpu = {} if self.dry else {"gpu_memory_utilization": 0.4}
        return EngineSpec(
            sampler=VllmSamplerConfig(engine=on_gpu | engine, max_completion_tokens=self.size.completion_tokens),
            base=BASE,
            dtype=self.size.dtype,
            serve=serve,
            max_lora_rank=RANK,
            max_context_tokens=self.size.max_context_tokens,
            seed=0,
            place=EnginePlace(model=self.model(shape), num_threads=self.num_threads, num_gpus=0.0 if self.dry else 1.0),
        )

    def engine(self, shape: str, *, serve: Any = "adapter", **engine: Any) -> Any:
        """Return an engine; by default without compiled graphs, which start sooner."""
        from rft.sampling.build import build_engine

        return build_engine(self.engine_spec(shape, serve=serve, **({"enforce_eager": True} | engine)))

    def learner_spec(self, shape: str, *, rows: int, completion_tokens: int, **learner: Any) -> LearnerSpec:
        """Return the spec of a learner whose step is one group of `rows` completions, in one micro-batch.

        Args:
            shape: Shape of the base model.
            rows: Completions of a step.
            completion_tokens: Their length.
            learner: Keys of the learner.
        """
        return LearnerSpec(
            run=RunConfig.model_validate(
                {
                    "output_dir": str(self.work / "run"),
                    "model": {},
                    "data": {},
                    "graders": {},
                    "loop": {"steps": 100, "prompts_per_step": 1, "completions_per_prompt": rows},
                    "sampler": {"kind": "transformers", "max_completion_tokens": completion_tokens},
                    "learner": {"kind": "grpo", "adapter": {"rank": RANK, "alpha": ALPHA}, "step_timeout_s": 60}
                    | learner,
                }
            ),
            model=self.model(shape),
            model_name=shape,
            base=BASE,
            run_folder=self.work / "run",
            completions_per_micro_batch=rows,
            dtype=self.size.dtype,
            on_gpu=not self.dry,
            num_threads=self.num_threads,
        )

    def group(self, *, rows: int, prompt_tokens: int, completion_tokens: int, policy: Policy) -> GradedGroup:
        """Return a group of random completions; every other one has a reward of 1, so that all have an advantage."""
        prompt = self.random_ids(1, prompt_tokens)[0]
        rollouts = tuple(
            Rollout(
                task_id="t",
                index=index,
                prompt_ids=prompt,
                completion_ids=ids,
                logprobs=(-1.0,) * len(ids),
                text="",
                stop=StopReason.LENGTH,
                policy=policy,
            )
            for index, ids in enumerate(self.random_ids(rows, completion_tokens, seed=1))
        )
        grades = tuple(Grade(scores={"g": Score(value=float(i % 2))}, reward=float(i % 2)) for i in range(rows))
        task = Task(id="t", messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)
        return GradedGroup(task=task, rollouts=rollouts, grades=grades)

    def random_ids(self, num: int, length: int, *, seed: int = 0) -> list[tuple[int, ...]]:
        """Return `[num][length]` random token ids."""
        import torch

        ids = torch.randint(self.size.vocabulary - 1, (num, length), generator=torch.Generator().manual_seed(seed))
        return [tuple(row) for row in ids.tolist()]

    def peak_bytes(self) -> int | None:
        """Return the peak of torch's memory since `forget_peak`; None on the CPU, which torch does not measure."""
        import torch

        return None if self.dry else int(torch.cuda.max_memory_allocated())

    def forget_peak(self) -> int | None:
        """Free unused memory, forget the peak, and return the memory that torch holds; None on the CPU."""
        gc.collect()
        if self.dry:
            return None
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())

    @contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Append the seconds of a block, including its work on the device, to the yielded list."""
        seconds: list[float] = []
        self._finish()
        began = time.perf_counter()
        yield seconds
        self._finish()
        seconds.append(time.perf_counter() - began)

    def _finish(self) -> None:
        if not self.dry:
            import torch

            torch.cuda.synchronize()


BASE = Policy(version=0, fingerprint="base")
"""The policy of every base model."""


def differences(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Mapping[str, float]:
    """Return mean, 95th percentile and maximum of |difference| between two `[N][L]` lists of log-probabilities."""
    pairs = ((a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
    gaps = sorted(abs(a - b) for a, b in pairs)
    p95 = gaps[int(0.95 * (len(gaps) - 1))]
    return {"mean": sum(gaps) / len(gaps), "p95": p95, "max": gaps[-1], "tokens": len(gaps)}
