"""The terminal as a sink: progress during the run, and a report at its end."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.events import Event, RunEnded
from rft.run_folder.recorder import read_rollouts
from rft.terminal.final_report import choose_samples, final_report
from rft.terminal.progress import Progress


class Terminal:
    """Shows a training run to a person.

    Args:
        console: Output.
        folder: The run folder, which contains the samples for the report.
    """

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder
        self._progress = Progress(console)

    def event(self, event: Event) -> None:
        """Show an event."""
        self._progress.event(event)
        if isinstance(event, RunEnded) and event.status != "failed":  # the caller shows a failure
            samples = choose_samples(read_rollouts(self._folder, "before"), read_rollouts(self._folder, "after"))
            final_report(self._console, summary=event.summary, samples=samples, paths=event.paths)
            if event.resume is not None and event.status == "interrupted":
                self._console.print(Text(f"\nto continue: {event.resume}"), soft_wrap=True)

    def close(self) -> None:
        """Stop showing progress."""
        self._progress.close()
