"""The configuration of a run: schema, composition with Hydra, and checks that report all problems together."""

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
