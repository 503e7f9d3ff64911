"""The configuration of a run: its schema, how it is composed, and everything that is wrong with it at once."""

from rft.config.problems import (
    completions_per_micro_batch,
    evaluate_problems,
    grade_problems,
    run_problems,
    serve_problems,
)
from rft.config.schema import EvaluateConfig, GradeConfig, RunConfig, ServeConfig

__all__ = [
    "EvaluateConfig",
    "GradeConfig",
    "RunConfig",
    "ServeConfig",
    "completions_per_micro_batch",
    "evaluate_problems",
    "grade_problems",
    "run_problems",
    "serve_problems",
]
