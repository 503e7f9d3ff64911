"""Try every supported architecture with a small random checkpoint: sampler, learner, and the proof of a sync.

    python scripts/try_architectures.py                 all of them, one process each; a table at the end
    python scripts/try_architectures.py gpt2 mixtral    some of them

For each architecture, the sampler samples a group with the base model, the learner takes a step on the group, and the
publication is loaded and proved: in vLLM as a merged adapter, as an adapter beside the model and as a whole model, and
in Transformers. docs/models.md contains the table. Each architecture takes half a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig

if TYPE_CHECKING:
    from rft.learning.spec import LearnerSpec
    from rft.sampling.engine import Loaded, Scores
    from rft.sampling.spec import EngineSpec
    from rft.types import Policy, Rollout

DEADLINE_S = 900.0
"""Deadline of one architecture."""
TOLERANCE = 1e-4
"""Largest mean gap of log-probabilities between sampler and learner, as in a run in float32."""
CONTEXT_TOKENS = 128
SMALL: dict[str, Any] = {"vocab_size": 128, "initializer_range": 0.1, "tie_word_embeddings": True}
LLAMA_LIKE: dict[str, Any] = SMALL | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
CONFIGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", LLAMA_LIKE),
    "Mistral": ("MistralConfig", LLAMA_LIKE | {"sliding_window": None}),
    "Qwen2": ("Qwen2Config", LLAMA_LIKE),
    "Qwen2.5": ("Qwen2Config", LLAMA_LIKE | {"tie_word_embeddings": False, "rope_theta": 1e6}),
    "Qwen3": ("Qwen3Config", LLAMA_LIKE | {"head_dim": 32}),
    "Gemma3": ("Gemma3TextConfig", LLAMA_LIKE | {"head_dim": 32, "sliding_window": 32}),
    "Phi3": ("Phi3Config", LLAMA_LIKE | {"pad_token_id": 1}),
    "GPT-2": ("GPT2Config", SMALL | {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256}),
    "OPT": (
        "OPTConfig",
        SMALL
        | {
            "hidden_size": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 64,
        },
    ),
    "GPT-NeoX": ("GPTNeoXConfig", LLAMA_LIKE | {"tie_word_embeddings": False}),
    "Mixtral": ("MixtralConfig", LLAMA_LIKE | {"num_local_experts": 4, "num_experts_per_tok": 2}),
}
"""By the name in docs/models.md: the configuration class of Transformers and its values."""


def make_checkpoint(name: str, folder: Path) -> None:
    """Write a random checkpoint of an architecture, with the tokenizer of the embedded model."""
    import torch
    import transformers

    from rft.models.base_model import EMBEDDED_MODELS

    kind, values = CONFIGS[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(EMBEDDED_MODELS["embedded:tiny"])
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**(values | ids))
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def try_one(name: str, ways: Sequence[str]) -> dict[str, str]:
    """Return the result of each way of serving: `proved`, or the reason for its failure."""
    os.environ["OMP_NUM_THREADS"] = "1"
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="rft-architecture-") as place:
        folder = Path(place) / "model"
        make_checkpoint(name, folder)
        for way in ways:
            try:
                results[way] = WAYS[way](folder, Path(place) / way)
            except Exception as error:  # the table shows any failure
                results[way] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    return results


def _merged(model: Path, work: Path) -> str:
    return _proved(model, work, sampler=VllmSamplerConfig(), serve="merged", lora=True)


def _adapter(model: Path, work: Path) -> str:
    return _proved(model, work, sampler=VllmSamplerConfig(), serve="adapter", lora=True)


def _transformers(model: Path, work: Path) -> str:
    return _proved(model, work, sampler=TransformersSamplerConfig(completions_per_batch=4), serve="adapter", lora=True)


def _whole(model: Path, work: Path) -> str:
    return _proved(model, work, sampler=VllmSamplerConfig(), serve="merged", lora=False)


WAYS: Mapping[str, Callable[[Path, Path], str]] = {
    "merged": _merged,
    "adapter": _adapter,
    "transformers": _transformers,
    "whole": _whole,
}
"""Ways of serving a policy."""


def _proved(model: Path, work: Path, *, sampler: SamplerConfig, serve: Any, lora: bool) -> str:
    """Sample, learn, publish, load, prove."""
    from rft.learning.build import build_learner
    from rft.models.base_model import fingerprint
    from rft.sampling.actor import Confirmation
    from rft.sampling.canaries import choose_canaries
    from rft.sampling.proof import prove
    from rft.sampling.spec import EnginePlace, EngineSpec
    from rft.types import Grade, GradedGroup, Policy, Score, Split, Task

    prompt = tuple(range(5, 25))
    canaries = choose_canaries([prompt, tuple(range(60, 20, -2))], max_context_tokens=CONTEXT_TOKENS)
    base = Policy(version=0, fingerprint=fingerprint(model))
    spec = EngineSpec(
        sampler=sampler,
        base=base,
        max_lora_rank=8 if lora else None,
        serve=serve,
        canaries=canaries,
        dtype="float32",
        max_context_tokens=CONTEXT_TOKENS,
        seed=0,
        place=EnginePlace(model=model, num_threads=1, num_gpus=0),
    )
    learner = build_learner(_learner_spec(model, work, base, canaries, lora=lora))
    # A separate process for the sampler, as in a run: vLLM modifies Transformers in its process.
    with ProcessPoolExecutor(1, get_context("spawn"), _start_sampler, (spec,)) as engine:
        try:
            before, rollouts = engine.submit(_sample, prompt).result()
            task = Task(id="t", messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)
            grades = tuple(Grade(scores={"g": Score(value=float(i % 2))}, reward=float(i % 2)) for i in range(4))
            metrics = learner.learn([GradedGroup(task=task, rollouts=tuple(rollouts), grades=grades)])
            publication = learner.publish()
            loaded, scores = engine.submit(_load, publication.weights).result()
        finally:
            learner.close()
    confirmation = Confirmation(loaded=loaded, scores=scores, load_s=0.0, proof_s=0.0)
    proof = prove(publication, confirmation, before, tolerance=TOLERANCE)
    if proof.problems:
        return "; ".join(proof.problems)
    if proof.base_gap.mean < 10 * TOLERANCE:
        return f"moved too little for a proof: {proof.base_gap}"
    gap = metrics.get("sampling/sampling_logp_difference/mean", float("nan"))
    return f"proved (gap {proof.gap.mean:.1g}, moved {proof.base_gap.mean:.2g}, of sampler and learner {gap:.1g})"


def _learner_spec(
    model: Path, work: Path, base: Policy, canaries: tuple[tuple[int, ...], ...], *, lora: bool
) -> LearnerSpec:
    """Return the spec of a learner that takes one large step."""
    from rft.config import RunConfig
    from rft.learning.spec import LearnerSpec

    return LearnerSpec(
        run=RunConfig.model_validate(
            {
                "output_dir": str(work),
                "model": {},
                "data": {},
                "graders": {},
                "loop": {"steps": 1, "prompts_per_step": 1, "completions_per_prompt": 4},
                "sampler": {"kind": "transformers", "max_completion_tokens": 16},
                "learner": {
                    "kind": "grpo",
                    "learning_rate": 0.05 if lora else 0.005,
                    "adapter": {"rank": 8, "alpha": 64} if lora else "full",
                    "step_timeout_s": 60,
                },
            }
        ),
        model=model,
        model_name="tried",
        base=base,
        run_folder=work,
        completions_per_micro_batch=4,
        dtype="float32",
        on_gpu=False,
        num_threads=1,
        canaries=canaries,
    )


_sampler: Any = None
"""The engine of a sampler's process, and its spec."""


def _start_sampler(spec: EngineSpec) -> None:
    from rft.sampling.build import build_engine

    global _sampler
    _sampler = build_engine(spec), spec


def _sample(prompt: tuple[int, ...]) -> tuple[Scores, list[Rollout]]:
    """Return the base model's scores of the canaries, and four of its completions."""
    from rft.sampling.engine import Request, SamplingOptions, request_seed, sample_all

    engine, spec = _sampler
    scores = engine.score(spec.canaries)
    requests = [Request(task_id="t", index=i, prompt_ids=prompt, seed=request_seed(i)) for i in range(4)]
    rollouts = sample_all(engine, requests, SamplingOptions(temperature=1.0, max_completion_tokens=16))
    return scores, sorted(rollouts, key=lambda rollout: rollout.index)


def _load(weights: Any) -> tuple[Loaded, Scores]:
    """Load a policy; return the result of reading it back, and its scores of the canaries."""
    engine, spec = _sampler
    return engine.load(weights), engine.score(spec.canaries)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try architectures; return 1 if one of them did not end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(CONFIGS)} (default: all)")
    parser.add_argument(
        "--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS), help="ways of serving (default: all)"
    )
    parser.add_argument("--here", action="store_true", help="try one architecture in this process; print JSON")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in CONFIGS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(CONFIGS)}")
    if given.here:
        print(json.dumps(try_one(given.names[0], given.ways)))
        return 0
    code = 0
    for name in given.names or CONFIGS:
        command = [sys.executable, __file__, name, "--here", "--ways", *given.ways]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            print(f"{name}: did not end within {DEADLINE_S:g} s", flush=True)
            code = 1
            continue
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            print(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}", flush=True)
            code = 1
            continue
        for way, outcome in json.loads(lines[-1]).items():
            print(f"{name:<10} {way:<13} {outcome}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
