"""What is wrong with `learner.trl`: unknown options, wrong types, and options that would do nothing."""

from __future__ import annotations

import difflib
from typing import Any

from rft.config.learners import GrpoLearnerConfig, PolicyLearnerConfig, PpoLearnerConfig
from rft.config.trl_options import TrlOption, trl_options
from rft.config.trl_support import PASSED_ON, SET_BY_RFT, WITHOUT_EFFECT
from rft.imports import is_installed
from rft.redaction import is_secret

_TYPE_NAMES = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
_TYPE_NAMES |= {"list": "a list", "dict": "a mapping", "None": "null"}
_CLIPPED = ("grpo", "dapo", "dr_grpo", "bnpo", "luspo")


def trl_problems(learner: PolicyLearnerConfig) -> list[str]:
    """Everything wrong with the options of TRL, one sentence each; types of values only where TRL is installed."""
    known = trl_options() if is_installed("trl") else None
    found = []
    for name, value in learner.trl.items():
        given = f"learner.trl.{name}={value}"
        if name in SET_BY_RFT:
            found.append(f"{given}: rft sets this itself; use {_instead(name, learner)}")
        elif is_secret(name) and value is not None:
            found.append(f"learner.trl.{name}: TRL writes its options into the checkpoints; set HF_TOKEN instead")
        elif name in WITHOUT_EFFECT:
            found.append(f"{given}: this does nothing in rft: {WITHOUT_EFFECT[name]}")
        elif name not in (known or PASSED_ON):
            near = difflib.get_close_matches(name, known or PASSED_ON, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            found.append(f"learner.trl.{name} is unknown; {hint}Allowed are the fields of TRL's GRPOConfig")
        elif known is not None and not _fits(value, known[name]):
            found.append(f"{given}: should be {_allowed(known[name])}")
        elif (missing := _missing(name, learner)) is not None:
            found.append(f"{given}: this only does something {missing}")
    return found


def _instead(name: str, learner: PolicyLearnerConfig) -> str:
    """The key to use instead of an option of TRL; where the learner has none, the learner that does."""
    key = SET_BY_RFT[name]
    section, _, field = key.partition(".")
    if section == "learner" and field not in type(learner).model_fields and isinstance(learner, PpoLearnerConfig):
        return "learner.kl_coef" if name == "beta" else f"learner=grpo, which has {key}"
    return key


def _fits(value: Any, option: TrlOption) -> bool:
    """Whether an option may have this value. A whole number is a number, and 0 and 1 are truth values."""
    types = option.types
    match value:
        case None:
            return "None" in types
        case bool():
            return "bool" in types
        case str():
            return "str" in types and (not option.choices or value in option.choices)
        case int():
            return bool(types & {"int", "float"}) or ("bool" in types and value in (0, 1))
        case float():
            return "float" in types
    return type(value).__name__ in types


def _allowed(option: TrlOption) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    return " or ".join(name for kind, name in _TYPE_NAMES.items() if kind in option.types)


def _missing(name: str, learner: PolicyLearnerConfig) -> str | None:
    """What an option needs beside it to do anything, where that is not there."""
    trl = learner.trl
    loss = learner.loss_type if isinstance(learner, GrpoLearnerConfig) else "dapo"
    beta = learner.beta if isinstance(learner, GrpoLearnerConfig) else 0.0
    by_name = {
        "delta": (loss in _CLIPPED, f"with learner.loss_type={' or '.join(_CLIPPED)}"),
        "warmup_steps": (
            trl.get("lr_scheduler_type") != "constant",
            "with another schedule; use learner.trl.lr_scheduler_type=constant_with_warmup, which is the default",
        ),
        "use_bias_correction_kl": (
            beta > 0 and isinstance(learner, GrpoLearnerConfig) and learner.importance_sampling_level == "token",
            "with learner.beta above 0 and one ratio for each token; a ratio for each completion "
            "(learner.importance_sampling_level=sequence) does not correct the KL's gradient",
        ),
        "gradient_checkpointing_kwargs": (
            bool(trl.get("gradient_checkpointing")),
            "with learner.trl.gradient_checkpointing=true",
        ),
        "liger_kernel_config": (bool(trl.get("use_liger_kernel")), "with learner.trl.use_liger_kernel=true"),
    }
    if name in by_name:
        there, needed = by_name[name]
        return None if there else needed
    by_beginning = {
        "sapo_": (loss == "sapo", "with learner.loss_type=sapo"),
        "vespo_": (loss == "vespo", "with learner.loss_type=vespo"),
        "entropy_coef_": (bool(trl.get("use_adaptive_entropy")), "with learner.trl.use_adaptive_entropy=true"),
        "entropy_target": (bool(trl.get("use_adaptive_entropy")), "with learner.trl.use_adaptive_entropy=true"),
        "vllm_importance_sampling_clip": (learner.correction is not None, "with learner.correction"),
        "sync_ref_model": (beta > 0 and learner.lora is None, "with learner.beta above 0 and learner.lora=null"),
        "ref_model_": (bool(trl.get("sync_ref_model")), "with learner.trl.sync_ref_model=true"),
        "hub_": (bool(trl.get("push_to_hub")), "with learner.trl.push_to_hub=true"),
    }
    return next(
        (needed for start, (there, needed) in by_beginning.items() if name.startswith(start) and not there), None
    )
