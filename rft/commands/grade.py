"""`rft grade`: grade recorded completions."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config import GradeConfig
from rft.config.commands import load_grading, written_out


def grade(words: list[str]) -> int:
    """Grade and print the distributions of the rewards and scores.

    Returns:
        The exit code: 0, 1 if no completion received a reward, or 130 or 143 after an interruption, which keeps the
        grades so far.
    """
    return configured("grade", written_out(words), load_grading, lambda config: run_grading(config, console=Console()))


def run_grading(config: GradeConfig, *, console: Console) -> int:
    """Grade with a checked configuration."""
    from rft.api.grade import grade_completions, plan_grading
    from rft.grading.report import report_lines
    from rft.run.forecast.plan import print_plan

    if config.dry_run:
        print_plan(console, plan_grading(config))
        return 0
    grading, stopped = grade_completions(config, console)
    lines = [*report_lines(grading.summary), "", f"scores and summary: {grading.folder}"]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return stopped if stopped is not None else 0 if grading.summary["reward"]["n"] else 1
