"""`rft evaluate`: a base model or an adapter, measured on a task file."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rft.api.evaluate import Measurement, measure
from rft.config import EvaluateConfig


def run_evaluation(config: EvaluateConfig, *, console: Console) -> int:
    """Measure and print the mean with its interval.

    Returns:
        The exit code: 0, or 130 or 143 when the measurement was interrupted.

    Raises:
        RftError: With what went wrong and what to do.
    """
    measured = measure(config, console)
    if isinstance(measured, int):
        return measured
    console.print(Text("\n".join(_lines(measured))), soft_wrap=True)
    return 0


def _lines(measured: Measurement) -> list[str]:
    summary, estimate = measured.summary, measured.estimate
    adapter = f" with {summary['adapter']}" if summary["adapter"] else ""
    return [
        f"{measured.metric} of {summary['model']}{adapter} on {summary['data']}:",
        f"  {estimate.text()} over {estimate.n} tasks (mean, 95% interval)",
        *([f"  {estimate.caveat}"] if estimate.caveat else []),
        *(f"  without a reward: {count} ({cause})" for cause, count in summary["drops"].items()),
        f"  rollouts and summary: {measured.folder}",
    ]
