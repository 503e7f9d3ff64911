"""Which models rft can train, and how their policies can be served, by what `config.json` says of them.

What stands in `TRIED` was tried with a small random checkpoint each (scripts/try_architectures.py, docs/models.md).
Other architectures are not refused: vLLM, Transformers and PEFT know many more, and the proof of each sync tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What trying an architecture showed.

    Example:
        Architecture(name="GPT-2", serves_adapters=False)
    """

    name: str
    """As its makers call it."""
    serves_adapters: bool = True
    """Whether vLLM serves adapters beside the base model."""


TRIED: Mapping[str, Architecture] = {
    "llama": Architecture(name="Llama"),
    "mistral": Architecture(name="Mistral"),
    "qwen2": Architecture(name="Qwen2, Qwen2.5"),
    "qwen3": Architecture(name="Qwen3"),
    "gemma3_text": Architecture(name="Gemma 3 (text)"),
    "gpt2": Architecture(name="GPT-2", serves_adapters=False),
    "opt": Architecture(name="OPT"),
    "phi3": Architecture(name="Phi-3"),
}
"""By `model_type`."""
NOT_IN_VLLM: Mapping[str, str] = {"gpt_neox": "GPT-NeoX"}
"""Architectures that vLLM has no implementation of, by `model_type`. The one that it falls back on says something else
than Transformers: log-probabilities of a random checkpoint differ by 0.34 on average."""

_ENCODER_DECODERS = (
    *("t5", "mt5", "umt5", "longt5", "t5gemma", "bart", "mbart", "pegasus", "marian", "m2m_100", "blenderbot", "led"),
    *("encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder", "whisper"),
)
"""The best known, for a `config.json` that does not say it."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Keys of `config.json` that mixtures of experts have."""
_OTHER_HEADS = {
    "MaskedLM": "fills in masked words",
    "SequenceClassification": "sorts texts into classes",
    "TokenClassification": "sorts tokens into classes",
    "QuestionAnswering": "points at passages",
    "MultipleChoice": "picks one of several texts",
    "PreTraining": "fills in masked words",
    "RewardModel": "scores texts",
}


def architecture_problems(config: Mapping[str, Any]) -> list[str]:
    """Why a model cannot be trained, one sentence each, with what to do; empty when nothing speaks against it.

    Args:
        config: Its `config.json`.
    """
    kind = str(config.get("model_type", ""))
    if config.get("is_encoder_decoder") or kind in _ENCODER_DECODERS:
        return [
            f"it is an encoder-decoder ({kind or 'is_encoder_decoder is true'}): one half reads the prompt, the other "
            "writes the answer; rft trains models that go on from their prompt (decoders), such as Llama or Qwen"
        ]
    found = []
    heads = [str(name) for name in config.get("architectures") or ()]
    others = [(head, what) for head in heads for end, what in _OTHER_HEADS.items() if head.endswith(end)]
    if others and len(others) == len(heads):
        head, what = others[0]
        found.append(
            f"it is a {head}, which {what} and writes none; take the model for text generation (...ForCausalLM)"
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "quantized") if isinstance(quantized, Mapping) else "quantized"
        found.append(
            f"its weights are quantized ({method}), and neither training nor merging an adapter works on those; give "
            "the model that it was made from"
        )
    return found


def tried(config: Mapping[str, Any]) -> Architecture | None:
    """What is known of a model's architecture; None where it was not tried."""
    return TRIED.get(str(config.get("model_type", "")))


def serving_problems(config: Mapping[str, Any], serve: str | None, *, with_adapter: bool) -> list[str]:
    """Why vLLM cannot serve a model's policies as configured.

    Args:
        config: The model's `config.json`.
        serve: `sampler.serve`.
        with_adapter: Whether the policies are adapters, not whole models.
    """
    if with_adapter and any(config.get(key) for key in _EXPERTS):
        return [
            f"the model ({config.get('model_type')}) is a mixture of experts: PEFT trains one adapter on all experts "
            "of a layer, which vLLM stores apart, so it can neither be served nor merged; take a model without experts"
        ]
    if (name := NOT_IN_VLLM.get(str(config.get("model_type", "")))) is not None:
        return [
            f"vLLM has no implementation of {name}, and its fallback computes other log-probabilities than the "
            "learner; use sampler=transformers"
        ]
    known = tried(config)
    if known is None or known.serves_adapters or serve != "adapter":
        return []
    return [
        f"sampler.serve={serve}: vLLM serves no adapters beside {known.name}; use sampler.serve=merged, or leave it out"
    ]
