"""The configuration of a run: schema, composition with Hydra, and checks that report all problems together.

Each name is imported when it is used: worker processes read a single section, and need not wait for Hydra.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rft.config.learner_problems import completions_per_micro_batch, sequences_per_step
    from rft.config.problems import (
        audit_config_problems,
        audit_folder,
        audit_problems,
        audit_warnings,
        evaluate_problems,
        grade_problems,
        merge_problems,
        run_problems,
        serve_problems,
    )
    from rft.config.schema import AuditConfig, EvaluateConfig, GradeConfig, MergeConfig, RunConfig, ServeConfig

__all__ = [
    "AuditConfig",
    "EvaluateConfig",
    "GradeConfig",
    "MergeConfig",
    "RunConfig",
    "ServeConfig",
    "audit_config_problems",
    "audit_folder",
    "audit_problems",
    "audit_warnings",
    "completions_per_micro_batch",
    "evaluate_problems",
    "grade_problems",
    "merge_problems",
    "run_problems",
    "sequences_per_step",
    "serve_problems",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    of_learner = name in ("completions_per_micro_batch", "sequences_per_step")
    file = "schema" if name.endswith("Config") else "learner_problems" if of_learner else "problems"
    value: object = getattr(importlib.import_module(f"{__name__}.{file}"), name)
    globals()[name] = value
    return value
