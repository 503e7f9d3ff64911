"""`rft evaluate`: measure a base model or an adapter on a task file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config import EvaluateConfig
from rft.config.adapter_settings import settings_in_words
from rft.config.commands import load_evaluation
from rft.wording import plural

if TYPE_CHECKING:
    from rft.api.evaluate import Measurement


def evaluate(words: list[str]) -> int:
    """Measure and print the mean with its interval.

    Returns:
        The exit code: 0, or 130 or 143 when the measurement was interrupted.
    """
    return configured("evaluate", words, load_evaluation, _evaluate)


def _evaluate(config: EvaluateConfig) -> int:
    console = Console()
    if settings := settings_in_words(config):
        print(settings)
    if config.dry_run:
        from rft.run.check import plan_evaluation
        from rft.run.forecast.plan import print_plan

        print_plan(console, plan_evaluation(config, console))
        return 0
    from rft.api.evaluate import measure

    measured = measure(config, console)
    if isinstance(measured, int):
        return measured
    console.print(Text("\n".join(_lines(measured))), soft_wrap=True)
    return 0


def _lines(measured: Measurement) -> list[str]:
    summary, estimate = measured.summary, measured.estimate
    adapter = f" with {summary['adapter']}" if summary["adapter"] else ""
    shots = f" after {plural(summary['shots'], 'worked example')}" if summary.get("shots") else ""
    return [
        f"{measured.metric} of {summary['model']}{adapter} on {summary['data']}{shots}:",
        f"  {estimate.text()} over {plural(estimate.n, 'task')} (mean, 95% interval)",
        *([f"  {estimate.caveat}"] if estimate.caveat else []),
        *(
            f"  {name}: {of_family.text()} over {plural(of_family.n, 'task')}"
            for name, of_family in measured.families.items()
        ),
        *(f"  without a reward: {count} ({cause})" for cause, count in summary["drops"].items()),
        f"  rollouts and summary: {measured.folder}",
    ]
