"""Shows the progress of a run: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Concatenate, ParamSpec

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rft.events import (
    DuplicatesDropped,
    Event,
    Measured,
    Notice,
    PhaseStarted,
    RunEnded,
    RunStarted,
    SamplerJoined,
    SamplerLost,
    SamplerReplaced,
    StepTrained,
    Warned,
)
from rft.metrics.intervals import Estimate
from rft.types import StepReport
from rft.waiting import Wait, current_wait, current_waits
from rft.wording import plural

P = ParamSpec("P")
logger = logging.getLogger(__name__)

SILENCE_S = 30.0
"""Without a terminal, a line reports the current wait after this number of seconds without output."""
LONG_WAIT_LINE_S = 10.0
"""Seconds between two lines about long waits."""

RECENT_STEPS = 20
"""Number of steps for the speed and for the sparkline of rewards."""
ROWS = {"demonstrations/rows", "preferences/pairs", "labelled/completions"}
"""Metrics of steps that learn from rows with answers."""


def _harmless(
    method: Callable[Concatenate[Progress, P], None],
) -> Callable[Concatenate[Progress, P], None]:
    """Keep the run alive if its display fails, such as after the terminal was closed. rich exits on a broken pipe."""

    @functools.wraps(method)
    def wrapper(self: Progress, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except (Exception, SystemExit):
            logger.debug("the progress display failed", exc_info=True)

    return wrapper


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a counter: a bar on a terminal, occasional lines elsewhere.

    Args:
        console: Output; the bar disappears at the end.
        what: Name of the activity, such as "checking prompts".

    Yields:
        `tell(done, total)`, which reports the progress. Nothing is shown before the first call.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last_line = time.monotonic()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task(what, total=None, visible=False)

        def tell(done: int, total: int) -> None:
            nonlocal last_line
            bar.update(shown, completed=done, total=total, visible=True)
            if not console.is_terminal and time.monotonic() - last_line >= SILENCE_S / 3:
                last_line = time.monotonic()
                console.print(Text(f"{what}: {done} of {total}"))

        yield tell


class Progress:
    """Shows progress, reward and current wait of a run. No method raises.

    Args:
        console: Output; only a terminal shows the live panel.
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._stopped = threading.Event()
        self._started = self._last_line = clock()
        self._total_steps = 0
        self._phase = "starting"
        self._last: StepReport | None = None
        self._held_out = ""
        self._curve: deque[float] = deque(maxlen=RECENT_STEPS)
        self._curve_name = "reward"
        self._step_ends: deque[float] = deque(maxlen=RECENT_STEPS + 1)
        self._told_quarters: dict[Wait, int] = {}
        self._last_wait_line = -math.inf

    @_harmless
    def start(self, total_steps: int) -> None:
        """Start the display of a run with `total_steps` steps, including those before a resume."""
        self._total_steps = total_steps
        self._started = self._clock()
        if self._is_live:
            self._live = Live(_Renderable(self._panel), console=self.console, refresh_per_second=4)
            self._live.start()
        else:
            threading.Thread(target=self._break_silence, name="rft-progress", daemon=True).start()

    def event(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunStarted():
                self.start(event.steps)
            case PhaseStarted():
                self.phase(event.text)
            case Notice():
                self.note(event.text)
            case Warned():
                self.warn(event.text)
            case SamplerLost():
                again = f"; {plural(event.num_completions, 'completion')} will be sampled again"
                self.warn(event.reason + again * bool(event.num_completions))
            case SamplerReplaced():
                self.note(f"{event.sampler} was replaced and proved its policy after {event.seconds:.0f} s")
            case SamplerJoined():
                self.note(f"{event.sampler} joined and proved its policy after {event.seconds:.0f} s")
            case DuplicatesDropped():
                self.warn(f"{event.sampler} returned {plural(event.num_completions, 'completion')} twice; dropped")
            case Measured():
                self.evaluated(event.phase, event.estimate, event.step)
            case StepTrained():
                self.step(event.report)
            case RunEnded():
                self.close()

    @_harmless
    def phase(self, text: str) -> None:
        """Show an activity outside steps, such as "measuring before: 120 of 250 tasks".

        Without a terminal, a line is printed only when the text before the colon changes.
        """
        earlier, self._phase = self._phase, _printable(text)
        if not self._is_live and self._phase.partition(":")[0] != earlier.partition(":")[0]:
            self._print(self._phase)

    @_harmless
    def step(self, report: StepReport) -> None:
        """Show the report of a step."""
        self._last = report
        self._phase = "training"
        self._step_ends.append(self._clock())
        # A run that samples nothing has a loss instead of a reward.
        self._curve_name, metric = (
            ("loss", "learner/loss") if ROWS & report.metrics.keys() else ("reward", "reward/mean")
        )
        self._curve.append(report.metrics.get(metric, math.nan))
        if not self._is_live:
            last = f"{self._curve_name} {_number_text(self._curve[-1])}"
            held_out = f"  held-out {self._held_out}" if self._held_out else ""
            speed = f"left {_clock_time(self._left_s())}  {self._step_s():.1f} s/step"
            self._print(f"step {report.step}/{self._total_steps}  {last}{held_out}  {speed}")

    @_harmless
    def evaluated(self, label: str, estimate: Estimate, step: int) -> None:
        """Show a held-out measurement with a label such as "before"."""
        self._held_out = f"{estimate.text()} (step {step})"
        self._print(f"{_printable(label)}: {estimate.text()} over {plural(estimate.n, 'task')} (step {step})")

    @_harmless
    def warn(self, text: str) -> None:
        """Show a warning above the panel."""
        self._print(f"warning: {_printable(text)}", style="yellow")

    @_harmless
    def note(self, text: str) -> None:
        """Show information above the panel."""
        self._last_line = self._clock()
        self.console.print(Text(_encodable(text, self.console)), soft_wrap=True)

    @_harmless
    def close(self) -> None:
        """Stop the display; the last state of the panel remains."""
        self._stopped.set()
        if self._live is not None:
            self._live.stop()

    def _print(self, line: str, style: str = "") -> None:
        """Print one line without wrapping and markup."""
        self._last_line = self._clock()
        self.console.print(Text(_encodable(line, self.console), style=style), soft_wrap=True)

    def _break_silence(self) -> None:
        """Report waits until `close`, in a separate thread."""
        while not self._stopped.wait(1.0):
            self._tell_wait()

    @_harmless
    def _tell_wait(self) -> None:
        """Print a wait that has used another quarter of its deadline, or the current wait after `SILENCE_S`."""
        now = self._clock()
        quarters = {wait: wait.quarters(now) for wait in current_waits()}
        told = {wait: number for wait, number in self._told_quarters.items() if wait in quarters}
        new = [wait for wait, number in quarters.items() if number > told.get(wait, 0)]
        if new and now - self._last_wait_line >= LONG_WAIT_LINE_S:
            self._last_wait_line = now
            wait = max(new, key=lambda one: quarters[one])
            told[wait] = quarters[wait]
            self._print(f"{self._phase}; {_printable(wait.text(now))}")
        elif now - self._last_line >= SILENCE_S:
            self._print(self._now())
        self._told_quarters = told

    def _now(self) -> str:
        """Return the current activity, and its longest wait or else its latest."""
        now = self._clock()
        longest = max(current_waits(), key=lambda one: one.quarters(now), default=None)
        wait = longest if longest is not None and longest.quarters(now) else current_wait()
        return self._phase if wait is None else f"{self._phase}; {_printable(wait.text(now))}"

    def _step_s(self) -> float:
        """Return recent seconds per step, including measurements."""
        if len(self._step_ends) > 1:
            return (self._step_ends[-1] - self._step_ends[0]) / (len(self._step_ends) - 1)
        return math.fsum(self._last.seconds.values()) if self._last else 0.0

    def _left_s(self) -> float:
        """Return the estimated seconds of the remaining steps."""
        return self._step_s() * (self._total_steps - (self._last.step if self._last else 0))

    def _panel(self) -> RenderableType:
        """Return the current panel."""
        done = self._last.step if self._last else 0
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True, min_width=8)
        rows.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_row(f"{done} of {self._total_steps}", ProgressBar(total=max(1, self._total_steps), completed=done))
        rows.add_row("step", bar)
        if curve := tuple(self._curve):
            spark = _sparkline(curve, ascii_only=self.console.options.ascii_only)
            rows.add_row(self._curve_name, Text.assemble((_number_text(curve[-1]), "bold"), "  ", (spark, "cyan")))
        if self._held_out:
            rows.add_row("held-out", Text(self._held_out))
        times = f"{_clock_time(self._clock() - self._started)} elapsed"
        if self._last:
            times += f", {_clock_time(self._left_s())} left, {self._step_s():.1f} s/step"
        rows.add_row("time", Text(times))
        if not self._stopped.is_set():
            rows.add_row("now", Text(_encodable(self._now(), self.console)))
        return Panel(rows, title="rft", title_align="left", border_style="dim", width=min(self.console.width, 88))


class _Renderable:
    """Redraws the panel at each refresh of rich."""

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw

    def __rich__(self) -> RenderableType:
        try:
            return self._draw()
        except Exception:  # in rich's refresh thread, a traceback would appear in the panel
            logger.debug("the progress panel failed", exc_info=True)
            return Text("rft")


def _number_text(number: float) -> str:
    """Format with three decimals; `none` if missing."""
    return "none" if math.isnan(number) else f"{number:.3f}"


def _sparkline(values: Sequence[float], *, ascii_only: bool) -> str:
    """Draw the values as a row of characters."""
    levels = "_.-=*#" if ascii_only else "".join(chr(0x2581 + level) for level in range(8))
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(levels) - 1) / (high - low) if high > low else 0.0
    return "".join(levels[round((value - low) * scale)] if math.isfinite(value) else " " for value in values)


def _clock_time(seconds: float) -> str:
    """Format as `0:21` or `1:02:03`."""
    minutes, second = divmod(round(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _printable(text: str) -> str:
    """Return one line without control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _encodable(text: str, console: Console) -> str:
    """Escape characters that the console's encoding lacks."""
    return text.encode(console.encoding, "backslashreplace").decode(console.encoding)
