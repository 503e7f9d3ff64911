"""TRL's trainer, imported without vLLM: whatever needs it here takes it from this module.

`trl.trainer.grpo_trainer` imports vLLM wherever it is installed, for TRL's own way to sample. rft samples elsewhere,
and vLLM would double the time and the memory of the import. TRL asks `trl.import_utils.is_vllm_available`, which its
modules take over when they are imported themselves.
"""

from __future__ import annotations

import importlib


def _is_vllm_available(min_version: str | None = None) -> bool:
    """What TRL is told instead."""
    return False


# Not `trl.import_utils`: TRL replaces its own module, which then has no such attribute.
importlib.import_module("trl.import_utils").__dict__["is_vllm_available"] = _is_vllm_available

from trl import GRPOConfig, GRPOTrainer  # noqa: E402  # only now: they ask on their import

__all__ = ["GRPOConfig", "GRPOTrainer"]
