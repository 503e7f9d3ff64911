"""`rft.benchmark`: a base model and its adapter on tasks of lm-evaluation-harness, compared sample by sample."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rft.api.compare import Result, compare
from rft.api.sample import SampleOptions, renderer_of, with_settings_of_run
from rft.config.samplers import SAMPLERS
from rft.config.samplers.base import SamplerConfig
from rft.errors import ModelError, UsageError
from rft.evidence.benchmark_logs import harness_lines
from rft.imports import require_packages
from rft.models.base_model import context_tokens, locate
from rft.reliability.durable import replace_file
from rft.run.local_engine import open_local_engine

BASE, TUNED = "base", "tuned"
"""Names of the two models in the comparison, and of their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """The options of `rft.benchmark`.

    Example:
        BenchmarkOptions(tasks=("gsm8k",), adapter="runs/quickstart/...", out="benchmarks/gsm8k")
    """

    tasks: tuple[str, ...]
    """Names of tasks, or `.yaml` files of tasks."""
    out: str | os.PathLike[str]
    """A new folder for the samples of both models and the comparison."""
    adapter: str | os.PathLike[str] | None = None
    """A run folder or an adapter folder; without it, only the base model is measured."""
    model: str | os.PathLike[str] | None = None
    """The base model, as in `model.path`; None takes that of the adapter."""
    include: str | os.PathLike[str] | None = None
    """A folder with further tasks."""
    limit: int | None = None
    """Number of samples of each task, from the first; None takes all."""
    num_fewshot: int | None = None
    """Number of solved examples before each prompt; None takes that of the task."""
    format: Literal["chat", "raw"] | None = None
    """`raw` sends the prompt of the task without a chat template; None takes the format of the adapter's run."""
    batch: int = 64
    """Number of completions to sample at once."""
    seed: int = 0
    """Seed of the sampling, where a task samples."""
    sampler: Literal["vllm", "transformers"] = "vllm"
    """The engine."""


def benchmark(options: BenchmarkOptions, tell: Callable[[str], None] = lambda text: None) -> Result | None:
    """Measure the base model and the adapter on tasks of lm-evaluation-harness; write and compare their samples.

    Prompts are rendered as in training: the text of a task is the user's message, unless the format is raw.

    Args:
        options: The options.
        tell: Receives what is being done, line by line.

    Returns:
        The comparison, paired by sample; None without an adapter.

    Raises:
        ModelError: The model or the adapter cannot be used.
        UsageError: A task cannot be run, or the folder exists.
        InstallError: lm-evaluation-harness or the engine is not installed.
    """
    require_packages("rft.benchmark", "lm_eval", *SAMPLERS[options.sampler].libraries)
    out = Path(options.out)
    if out.exists():
        raise UsageError("benchmark", [f"out={out}: it exists already; choose another folder, or remove it"])
    if options.adapter is None and options.model is None:
        raise ModelError("benchmark", ["give adapter (a run folder), or model (a folder or hub id), or both"])
    from rft.run.harness_model import HarnessModel, run_tasks

    filled, adapter, settings = with_settings_of_run(_sampled(options))
    if settings:
        tell(settings)
    model = locate(os.fspath(filled.model or ""))
    engine = open_local_engine(
        options.sampler, model, adapter, seed=options.seed, num_completions=options.batch, loads_adapter=False
    )
    policy = HarnessModel(
        engine,
        renderer_of(filled, model),
        system=filled.system if filled.format != "raw" else None,
        stop=tuple(filled.stop or ()),
        context_tokens=context_tokens(model),
        max_tokens=filled.max_tokens or SamplerConfig().max_completion_tokens,
        batch=options.batch,
        seed=options.seed,
    )
    samples = {}
    for name, weights in ((BASE, None), (TUNED, adapter)):
        if weights is not None and (problems := engine.load(weights).problems):
            raise ModelError("adapter", problems)
        if name == BASE or weights is not None:
            tell(f"measuring {name}: {', '.join(options.tasks)}")
            samples[name] = run_tasks(
                policy,
                options.tasks,
                include=None if options.include is None else Path(options.include),
                limit=options.limit,
                num_fewshot=options.num_fewshot,
            )
    out.mkdir(parents=True)
    for name, by_task in samples.items():
        replace_file(out / f"{name}.jsonl", [_line(line) for line in _lines(by_task)])
    return None if adapter is None else compare(*(f"{name}={out / name}.jsonl" for name in samples))


def _lines(by_task: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the samples as lines like those of rollouts.jsonl, each metric under the name of its task."""
    lines = [(task, line) for task, samples in by_task.items() for line in harness_lines(task, samples)]
    return [
        line | {"scores": {f"{task}: {metric}": score for metric, score in line["scores"].items()}}
        for task, line in lines
    ]


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _sampled(options: BenchmarkOptions) -> SampleOptions:
    """Return the options of `rft.sample` whose settings the run of the adapter gives."""
    return SampleOptions(
        prompt="",
        adapter=options.adapter,
        model=options.model,
        retrieval={},
        format=options.format,
        seed=options.seed,
        sampler=options.sampler,
    )
