"""Measures a thousand syncs: the cost of each, and whether memory grows or the proof drifts.

    python benchmarks/sync_soak.py --serve adapter      # 1,000 syncs, the embedded model
    python benchmarks/sync_soak.py --serve merged --syncs 50 --hidden 384 --layers 8

One engine loads one new random adapter after another, proves each against the same adapter in Transformers, and
samples a few completions with each. At the end the script prints the seconds of a load and of its proof; sampled
tokens per second of CPU time, which hardly depends on other work on the machine; the gaps of the first and the last
proof; and memory, temporary files and open files after the 10th and the last sync. `--hidden` and `--layers` replace
the embedded model by a random Llama of another size.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rft.config.samplers.vllm import VllmSamplerConfig
from rft.learning.pack_weights import pack_adapter
from rft.sampling.actor import SamplerActor
from rft.sampling.canaries import choose_canaries
from rft.sampling.engine import Request, SamplingOptions
from rft.sampling.proof import TOLERANCES, prove
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Logprobs, Policy, Publication

EMBEDDED = Path(__file__).parents[1] / "rft" / "embedded" / "model"
CONTEXT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Held:
    """Resources of the process at one moment."""

    memory_mib: float
    temporary_files: int
    open_files: int


def held() -> Held:
    """Return the current resources of this process."""
    gc.collect()
    process = psutil.Process()
    return Held(
        memory_mib=process.memory_info().rss / 2**20,
        temporary_files=sum(1 for _ in Path(tempfile.gettempdir()).rglob("*")),
        open_files=process.num_fds(),
    )


@torch.no_grad()
def score(model: Any, canaries: tuple[tuple[int, ...], ...]) -> Logprobs:
    """Score the canaries with Transformers."""
    ids = torch.tensor(canaries)
    logprobs = torch.log_softmax(model(ids).logits[:, :-1].float(), -1)
    return tuple(map(tuple, logprobs.gather(2, ids[:, 1:, None])[..., 0].tolist()))


def model_folder(folder: Path, hidden: int | None, layers: int) -> Path:
    """Return the embedded model, or write a random one of the same kind and another size."""
    if hidden is None:
        return EMBEDDED
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(EMBEDDED)
    config.update({"hidden_size": hidden, "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "head_dim": 64})
    config.update({"num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED).save_pretrained(folder)
    return folder


async def soak(spec: EngineSpec, learner: Any, *, syncs: int, completions: int) -> dict[str, Any]:
    """Sync repeatedly; return the figures."""
    actor = SamplerActor(spec)
    _, base = await actor.start()
    with learner.disable_adapter():
        base_scores = score(learner, spec.canaries)
    seconds: dict[str, list[float]] = {"load": [], "proof": []}
    gaps: list[float] = []
    tokens, sampling_s, cpu_s = 0, 0.0, 0.0
    early: Held | None = None
    requests = [
        Request(task_id="t", index=index, prompt_ids=spec.canaries[0][:16], seed=index) for index in range(completions)
    ]
    for version in range(1, syncs + 1):
        torch.manual_seed(version)
        for name, parameter in learner.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        weights = pack_adapter(learner, version=version, base_model_name="base")
        publication = Publication(
            weights=weights, canary_logprobs=score(learner, spec.canaries), base_canary_logprobs=base_scores
        )
        began = time.process_time()
        confirmation = await actor.load(weights)
        cpu_s += time.process_time() - began
        proof = prove(publication, confirmation, base, tolerance=TOLERANCES[spec.dtype])
        if proof.problems:
            raise SystemExit(f"sync {version}: {'; '.join(proof.problems)}")
        seconds["load"].append(confirmation.load_s)
        seconds["proof"].append(confirmation.proof_s)
        gaps.append(proof.gap.mean)
        began = time.process_time()
        options = SamplingOptions(temperature=1.0, max_completion_tokens=128)
        async for batch in actor.sample(version, requests, options, weights.policy):
            tokens += sum(len(rollout.completion_ids) for rollout in batch)
        sampling_s += time.process_time() - began
        if version == min(10, syncs):
            early = held()
    return {
        "load, median (s)": statistics.median(seconds["load"]),
        "proof, median (s)": statistics.median(seconds["proof"]),
        "load and proof, mean (CPU s)": cpu_s / syncs,
        "sampled tokens per CPU second": tokens / sampling_s,
        "mean gap, first and last": f"{gaps[0]:.2g}, {gaps[-1]:.2g}",
        "largest mean gap": max(gaps),
        "bytes shipped": len(weights.tensors),
        "held at the 10th": early,
        "held at the last": held(),
    }


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", choices=("adapter", "merged"), required=True)
    parser.add_argument("--syncs", type=int, default=1000)
    parser.add_argument("--completions", type=int, default=4, help="completions sampled with each version")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # a folder of its own, to count remaining files
        model = model_folder(Path(folder), given.hidden, given.layers)
        prompts = [tuple(range(start, start + 20)) for start in range(5, 60, 5)]
        spec = EngineSpec(
            sampler=VllmSamplerConfig(),
            base=Policy(version=0, fingerprint="base"),
            max_lora_rank=given.rank,
            dtype="float32",
            max_context_tokens=CONTEXT_TOKENS,
            seed=0,
            place=EnginePlace(model=model, num_threads=given.threads, num_gpus=0),
            canaries=choose_canaries(prompts, max_context_tokens=CONTEXT_TOKENS),
        )
        plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        config = LoraConfig(r=given.rank, lora_alpha=2 * given.rank, target_modules="all-linear", task_type="CAUSAL_LM")
        learner = get_peft_model(plain, config).eval()
        size = sum(parameter.numel() for parameter in plain.parameters()) / 1e6
        print(
            f"{given.serve}: {given.syncs} syncs of rank {given.rank}, {size:.1f}M parameters, {given.threads} threads"
        )
        figures = asyncio.run(
            soak(replace(spec, serve=given.serve), learner, syncs=given.syncs, completions=given.completions)
        )
    for name, value in figures.items():
        print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")


if __name__ == "__main__":
    main()
