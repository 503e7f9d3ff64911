"""Settings of TRL's own trainers, which tests compare with rft's."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {
    "learning_rate": 1e-2,
    "seed": 0,
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "logging_steps": 1,
    "save_strategy": "no",
    "max_length": None,
}
"""On a CPU, each step logged and nothing saved."""
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
"""The adapter of these tests."""
