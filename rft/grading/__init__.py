"""Grading: the definition and loading of graders. `rft.grading.panel` grades a stream of completions.

The names that authors of graders need are importable from here:

    from rft.grading import final_answer

    def concise(completion, task):
        return len(final_answer(completion)) <= 80
"""

from rft.grading.answers import final_answer, reference
from rft.grading.contract import LoadedGrader, per_group
from rft.grading.loading.registry import grader_problems, load_grader
from rft.types import Rollout, Score, Status, Task

__all__ = [
    "LoadedGrader",
    "Rollout",
    "Score",
    "Status",
    "Task",
    "final_answer",
    "grader_problems",
    "load_grader",
    "per_group",
    "reference",
]
