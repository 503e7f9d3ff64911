"""Which options TRL's `GRPOConfig` has and which trackers Transformers knows, read from their source.

Importing either would pull in torch, and a configuration is checked before anything heavy is imported.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

SET_BY_RFT = {
    "output_dir": "output_dir",
    "max_steps": "loop.steps",
    "num_train_epochs": "loop.steps",
    "num_generations": "loop.completions_per_prompt",
    "generation_batch_size": "loop.prompts_per_step",
    "steps_per_generation": "loop.prompts_per_step",
    "gradient_accumulation_steps": "learner.completions_per_micro_batch",
    "per_device_train_batch_size": "learner.completions_per_micro_batch",
    "max_completion_length": "sampler.max_completion_tokens",
    "temperature": "sampler.temperature",
    "learning_rate": "learner.learning_rate",
    "seed": "seed",
    "report_to": "logging.report_to",
    "save_steps": "loop.checkpoint_every_steps",
    "save_strategy": "loop.checkpoint_every_steps",
    "save_total_limit": "loop.keep_checkpoints",
    "resume_from_checkpoint": "resume",
    "use_vllm": "sampler",
    "vllm_mode": "sampler",
    "use_cpu": "learner.num_gpus",
    "shuffle_dataset": "seed",
    "eval_strategy": "evaluation.every_steps",
    "do_eval": "evaluation.every_steps",
    "ignore_data_skip": "resume",
    "logging_steps": "logging",
    "reward_weights": "graders.<name>.weight",
    "num_iterations": "learner.epochs",
    "loss_type": "learner.loss_type",
    "beta": "learner.beta",
    "epsilon": "learner.clip",
    "epsilon_high": "learner.clip_high",
    "scale_rewards": "learner.scale_rewards",
    "importance_sampling_level": "learner.importance_sampling_level",
    "mask_truncated_completions": "learner.mask_truncated",
    "vllm_importance_sampling_correction": "learner.correction",
    "vllm_importance_sampling_mode": "learner.correction",
}
"""TRL options that rft sets itself, and the key of rft to use instead."""

PACKAGES = {"azure_ml": "azureml", "flyte": "flytekit"}
"""Packages of trackers that are not called as their package is."""

_GRPO_CONFIG = (
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)


@cache
def trl_option_names() -> frozenset[str]:
    """The fields of `GRPOConfig` and of the classes it stands on."""
    names: set[str] = set()
    for package, file, class_name in _GRPO_CONFIG:
        body = next(
            node.body
            for node in _source(package, file).body
            if isinstance(node, ast.ClassDef) and node.name == class_name
        )
        names |= {
            node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
    return frozenset(name for name in names if not name.startswith("_"))


@cache
def tracker_names() -> frozenset[str]:
    """What `report_to` may hold."""
    for node in _source("transformers", "integrations/integration_utils.py").body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            targets = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "INTEGRATION_TO_CALLBACK" in targets:
                return frozenset(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    raise LookupError("transformers.integrations.integration_utils has no INTEGRATION_TO_CALLBACK any more")


def _source(package: str, file: str) -> ast.Module:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
