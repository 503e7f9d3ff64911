"""`rft feasibility`: sample training tasks, and say whether a run is worth starting."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config import RunConfig
from rft.config.commands import load_feasibility


def feasibility(words: list[str]) -> int:
    """Measure and print the verdict.

    Returns:
        The exit code: 0, or 1 if the verdict is no-go.
    """
    return configured("feasibility", words, load_feasibility, partial(_feasibility, ["rft", "feasibility", *words]))


def _feasibility(command: list[str], run: RunConfig) -> int:
    from rft.api.feasibility import judge, plan_feasibility
    from rft.evidence.feasibility_text import feasibility_lines
    from rft.run.forecast.plan import print_plan

    console = Console()
    if run.dry_run:
        print_plan(console, plan_feasibility(run, console))
        return 0
    judged = judge(run, command=command, console=console)
    console.print(Text("\n".join([*feasibility_lines(judged.report), f"  {judged.folder}"])), soft_wrap=True)
    return 0 if judged.is_worth_starting else 1
