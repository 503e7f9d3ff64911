"""Checks by `config.json` whether rft can train a model, and how its policies can be served.

`scripts/try_architectures.py` tested each architecture in `TRIED` with a small random checkpoint (docs/models.md). rft
accepts other architectures, too: vLLM, Transformers and PEFT support many more, and the proof of each sync checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Results of testing an architecture.

    Example:
        Architecture(name="GPT-2", serves_adapters=False)
    """

    name: str
    """Name that the authors use."""
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
"""Tested architectures, by `model_type`."""
NOT_IN_VLLM: Mapping[str, str] = {"gpt_neox": "GPT-NeoX"}
"""Architectures without an implementation in vLLM, by `model_type`. The log-probabilities of vLLM's fallback differ
from those of Transformers by 0.34 on average, for a random checkpoint."""

_ENCODER_DECODERS = (
    *("t5", "mt5", "umt5", "longt5", "t5gemma", "bart", "mbart", "pegasus", "marian", "m2m_100", "blenderbot", "led"),
    *("encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder", "whisper"),
)
"""Common encoder-decoders, for a `config.json` without `is_encoder_decoder`."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Keys of `config.json` that indicate a mixture of experts."""
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
    """Return the reasons why a model cannot be trained, with remedies; empty if it can be trained.

    Args:
        config: The model's `config.json`.
    """
    kind = str(config.get("model_type", ""))
    if config.get("is_encoder_decoder") or kind in _ENCODER_DECODERS:
        return [
            f"it is an encoder-decoder ({kind or 'is_encoder_decoder is true'}): one half reads the prompt, the other "
            "writes the answer; rft trains models that continue their prompt (decoders), such as Llama or Qwen"
        ]
    problems = []
    heads = [str(name) for name in config.get("architectures") or ()]
    others = [(head, what) for head in heads for end, what in _OTHER_HEADS.items() if head.endswith(end)]
    if others and len(others) == len(heads):
        head, what = others[0]
        problems.append(
            f"it is a {head}, which {what} and generates no text; use the model for text generation (...ForCausalLM)"
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method", "quantized") if isinstance(quantized, Mapping) else "quantized"
        problems.append(
            f"its weights are quantized ({method}), so an adapter can be neither trained nor merged; use "
            "the model from which it was made"
        )
    return problems


def tried(config: Mapping[str, Any]) -> Architecture | None:
    """Return the test results of a model's architecture; None if it is untested."""
    return TRIED.get(str(config.get("model_type", "")))


def serving_problems(config: Mapping[str, Any], serve: str | None, *, with_adapter: bool) -> list[str]:
    """Return the reasons why vLLM cannot serve a model's policies as configured.

    Args:
        config: The model's `config.json`.
        serve: `sampler.serve`.
        with_adapter: Whether the policies are adapters instead of whole models.
    """
    if with_adapter and any(config.get(key) for key in _EXPERTS):
        return [
            f"the model ({config.get('model_type')}) is a mixture of experts: PEFT trains one adapter on all experts "
            "of a layer, but vLLM stores experts separately, so it can be neither served nor merged; use a "
            "model without experts"
        ]
    if (name := NOT_IN_VLLM.get(str(config.get("model_type", "")))) is not None:
        return [
            f"vLLM has no implementation of {name}, and the log-probabilities of its fallback differ from "
            "the learner's; use sampler=transformers"
        ]
    known = tried(config)
    if known is None or known.serves_adapters or serve != "adapter":
        return []
    return [
        f"sampler.serve={serve}: vLLM serves no adapters beside {known.name}; use sampler.serve=merged, or leave it out"
    ]
