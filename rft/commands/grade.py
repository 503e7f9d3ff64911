"""`rft grade`: completions that were recorded, graded."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rft.api.grade import grade_completions, plan_grading
from rft.config import GradeConfig
from rft.grading.report import report_lines
from rft.run.plan import print_plan


def run_grading(config: GradeConfig, *, console: Console) -> int:
    """Grade and print the distributions of the rewards and scores.

    Returns:
        The exit code: 0, 1 when not one completion got a reward, or 130 or 143 when it was interrupted; what was graded
        by then is written.

    Raises:
        RftError: With what went wrong and what to do.
    """
    grading, stopped = grade_completions(config, console)
    lines = [*report_lines(grading.summary), "", f"scores and summary: {grading.folder}"]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return stopped if stopped is not None else 0 if grading.summary["reward"]["n"] else 1


def check_grading(config: GradeConfig, *, console: Console) -> int:
    """Print what would be graded.

    Returns:
        0.

    Raises:
        UsageError: With everything that is wrong.
    """
    print_plan(console, plan_grading(config))
    return 0
