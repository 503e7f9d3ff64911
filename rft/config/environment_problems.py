"""Checks the environment of a run."""

from __future__ import annotations

from rft.config.environment import SCORE
from rft.config.schema import EvaluateConfig, RunConfig


def environment_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return the problems of the environment, one sentence each."""
    environment = config.environment
    scores = [name for name, spec in config.graders.items() if spec.get("use") == SCORE]
    if not environment.is_on:
        problems = [
            f"graders.{name}.use={SCORE}: the run has no environment; set environment.use, or leave the grader out"
            for name in scores
        ]
        unused = {"options": environment.options, "style": environment.style, "credit": environment.credit == "turn"}
        problems += [
            f"environment.{key}: has no effect without environment.use; leave it out"
            for key, value in unused.items()
            if value
        ]
        return problems
    problems = []
    if scores != [SCORE]:
        problems.append(
            f"graders: the environment's score is the grader '{SCORE}' with use={SCORE}, once; found {scores or 'none'}"
        )
    if isinstance(config, RunConfig):
        learner = config.learner
        if learner.takes != "groups" or learner.has_teacher:
            problems.append(
                f"environment.use={environment.use}: learner={learner.kind} does not learn from episodes; use a "
                "learner that samples and grades, such as learner=grpo, ppo or raft"
            )
        elif environment.credit == "turn":
            found = learner.turn_credit_problems(environment.discount)
            problems += [f"environment.credit=turn: {problem}" for problem in found]
        elif environment.discount != 1:
            problems.append(
                f"environment.discount={environment.discount:g}: has no effect with environment.credit=episode; use "
                "environment.credit=turn"
            )
    return problems
