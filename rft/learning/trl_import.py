"""Imports TRL's trainer without vLLM. All of rft imports the trainer from this module.

`trl.trainer.grpo_trainer` imports vLLM if it is installed, for TRL's own sampling. rft samples in other processes, and
vLLM would double the time and the memory of the import. TRL's modules copy `trl.import_utils.is_vllm_available` during
their own import, so rft replaces it before.
"""

from __future__ import annotations

import importlib


def _is_vllm_available(min_version: str | None = None) -> bool:
    """Return False in place of TRL's check."""
    return False


# `importlib` and not `trl.import_utils`: TRL replaces its own module by an object without this attribute.
importlib.import_module("trl.import_utils").__dict__["is_vllm_available"] = _is_vllm_available

from trl import GRPOConfig, GRPOTrainer  # noqa: E402  # after the replacement
from trl.trainer.utils import add_fused_lm_head, use_adapter  # noqa: E402

__all__ = ["GRPOConfig", "GRPOTrainer", "add_fused_lm_head", "use_adapter"]
