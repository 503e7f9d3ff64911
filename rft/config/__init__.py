"""The configuration of a run: its schema, how it is composed, and everything that is wrong with it at once."""

from rft.config.problems import completions_per_micro_batch, evaluate_problems, run_problems
from rft.config.schema import EvaluateConfig, RunConfig

__all__ = ["EvaluateConfig", "RunConfig", "completions_per_micro_batch", "evaluate_problems", "run_problems"]
