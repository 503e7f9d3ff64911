"""The GRPO learner: TRL's GRPOTrainer with a PEFT LoRA adapter on all linear layers."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig

from rft.base_model import load_tokenizer
from rft.errors import LearnError
from rft.learning.publish import pack_adapter
from rft.learning.spec import COMPLETE, LearnerSpec
from rft.learning.trl_seam import SteppedTrainer
from rft.types import Adapter, GradedGroup


class GrpoLearner:
    """Trains the adapter, in this process.

    Args:
        spec: What to build; `spec.options` are TRL's own options by name and win over what is set here.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        torch.set_num_threads(spec.num_threads)
        warnings.filterwarnings("ignore", message=".*rollout_func.*experimental.*")
        transformers_logging.disable_progress_bar()
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(spec.run_folder / "tensorboard")
        self._spec = spec
        try:
            config = GRPOConfig(**_arguments(spec))
        except (TypeError, ValueError) as error:
            raise LearnError(f"TRL refuses learner.trl: {error}") from error
        self._stepped = SteppedTrainer(
            model=AutoModelForCausalLM.from_pretrained(spec.model, dtype=getattr(torch, spec.dtype)),
            tokenizer=load_tokenizer(spec.model, spec.chat_template),
            config=config,
            lora=LoraConfig(
                r=spec.lora_rank,
                lora_alpha=spec.lora_alpha,
                lora_dropout=spec.lora_dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            resume_from=spec.resume_from,
            timeout_s=spec.timeout_s,
        )

    @property
    def steps_done(self) -> int:
        """Optimizer steps taken so far, those before a resume included."""
        return self._stepped.steps_done

    def learn(self, groups: Sequence[GradedGroup]) -> dict[str, float]:
        """Take one optimizer step on these groups; return TRL's metrics."""
        return self._stepped.step(groups)

    def publish(self) -> Adapter:
        """The adapter as it stands, as the policy of version `steps_done`."""
        return pack_adapter(self._stepped.trainer.model, version=self.steps_done, base_model_name=self._spec.model_name)

    def save(self) -> None:
        """Write a checkpoint; it counts once its last file is there."""
        folder = self._stepped.save()
        temporary = folder / (COMPLETE + ".tmp")
        temporary.write_text(json.dumps({"step": self.steps_done}))
        temporary.replace(folder / COMPLETE)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Hand numbers to the trackers, at the current step."""
        self._stepped.trainer.log(dict(metrics))

    def close(self) -> None:
        """End the trainer."""
        self._stepped.close()


def _arguments(spec: LearnerSpec) -> dict[str, Any]:
    """What `GRPOConfig` is built from."""
    completions_per_step = spec.prompts_per_step * spec.completions_per_prompt
    accumulation = completions_per_step // spec.completions_per_micro_batch
    return {
        "output_dir": str(spec.run_folder / "checkpoints"),
        "max_steps": spec.steps,
        "num_generations": spec.completions_per_prompt,
        "per_device_train_batch_size": spec.completions_per_micro_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
        "max_completion_length": spec.max_completion_tokens,
        "temperature": spec.temperature,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": spec.seed,
        "use_cpu": not spec.on_gpu,
        "bf16": spec.on_gpu and spec.dtype == "bfloat16",
        "gradient_checkpointing": spec.on_gpu,
        "dataloader_pin_memory": spec.on_gpu,
        "report_to": list(spec.report_to),
        "logging_steps": 1,
        "save_strategy": "no",
        "save_total_limit": spec.keep_checkpoints,
        "disable_tqdm": True,
        "shuffle_dataset": False,
        "ignore_data_skip": True,
        **spec.options,
    }
