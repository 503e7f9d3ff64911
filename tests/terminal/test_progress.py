"""The display: plain lines where the output is no terminal, a panel where it is, and never an error."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from rft.metrics.intervals import Estimate
from rft.terminal.progress import Progress
from rft.types import Policy, StepReport
from rft.waiting import Wait, waiting

HELD_OUT = Estimate(mean=0.62, ci95=(0.56, 0.68), n=250)


class Clock:
    """A clock that goes when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report(step: int, reward: float | None = 0.531) -> StepReport:
    metrics = {} if reward is None else {"reward/mean": reward}
    return StepReport(step=step, policy=Policy(version=step, fingerprint="f"), metrics=metrics, seconds={"learn": 0.6})


def console(**options: Any) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=80, _environ={}, **options), file


def test_plain_output_is_a_line_a_step(clock: Clock) -> None:
    to, file = console()
    progress = Progress(to, clock=clock)
    progress.start(60)
    progress.phase("measuring before: 1 of 250 tasks")
    progress.phase("measuring before: 2 of 250 tasks")
    progress.evaluated("before", HELD_OUT, 0)
    progress.step(report(1))
    clock.now += 0.5
    progress.step(report(2, reward=None))
    clock.now += 1.5
    progress.step(report(3))
    progress.close()
    assert file.getvalue().splitlines() == [
        "measuring before: 1 of 250 tasks",
        "before: 0.620 [0.560, 0.680] over 250 tasks (step 0)",
        "step 1/60  reward 0.531  held-out 0.620 [0.560, 0.680] (step 0)  left 0:35  0.6 s/step",  # 59 x 0.6 s
        "step 2/60  reward none  held-out 0.620 [0.560, 0.680] (step 0)  left 0:29  0.5 s/step",
        "step 3/60  reward 0.531  held-out 0.620 [0.560, 0.680] (step 0)  left 0:57  1.0 s/step",  # 57 x 2.0 s / 2
    ]


def test_texts_are_neither_markup_nor_control_characters(clock: Clock) -> None:
    to, file = console()
    Progress(to, clock=clock).warn("a [bold]b[/bold] \x1b[31mc\r\n\x07d \u202e" + "x" * 100)
    assert file.getvalue() == "warning: a [bold]b[/bold] [31mc d " + "x" * 100 + "\n"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Wait]:
    """The waits in progress."""
    waits: list[Wait] = []
    monkeypatch.setattr("rft.terminal.progress.current_waits", lambda: tuple(waits))
    monkeypatch.setattr("rft.terminal.progress.current_wait", lambda: waits[-1] if waits else None)
    return waits


def test_silence_is_broken_by_the_current_wait(clock: Clock, waits: list[Wait]) -> None:
    to, file = console()
    progress = Progress(to, clock=clock)
    progress.phase("starting 1 sampler")
    waits.append(Wait("an engine", since=88.0))
    clock.now += 29
    progress._tell_wait()
    clock.now += 1
    progress._tell_wait()
    progress._tell_wait()
    assert file.getvalue().splitlines() == ["starting 1 sampler", "starting 1 sampler; waiting 42 s for an engine"]


def test_a_long_wait_gets_a_line_for_each_quarter_of_its_deadline(clock: Clock, waits: list[Wait]) -> None:
    to, file = console()
    progress = Progress(to, clock=clock)
    waits += [Wait("1 of 64 completions", since=100.0, deadline_s=40.0), Wait("a grader", since=100.0, deadline_s=20.0)]
    for seconds in (4, 1, 5, 1, 9):  # the waits are then 4, 5, 10, 11 and 20 s old
        clock.now += seconds
        progress._tell_wait()
    waits.pop()
    clock.now += 1
    progress._tell_wait()
    clock.now += 9
    progress._tell_wait()
    assert file.getvalue().splitlines() == [
        "starting; waiting 5 of 20 s for a grader",
        "starting; waiting 20 of 20 s for a grader",  # at 10 s the last line is too young
        "starting; waiting 30 of 40 s for 1 of 64 completions",
    ]


def test_a_terminal_shows_the_wait_that_has_used_most_of_its_deadline(clock: Clock, waits: list[Wait]) -> None:
    progress = Progress(console()[0], clock=clock)
    waits += [Wait("the learner's step", since=80.0, deadline_s=40.0), Wait("a file", since=99.0, deadline_s=60.0)]
    assert progress._now() == "starting; waiting 20 of 40 s for the learner's step"
    waits.pop(0)
    assert progress._now() == "starting; waiting 1 of 60 s for a file"


def test_a_terminal_gets_a_panel(clock: Clock) -> None:
    to, file = console(force_terminal=True, color_system=None)
    progress = Progress(to, clock=clock)
    progress.start(60)
    progress.evaluated("before", HELD_OUT, 0)
    for step, reward in enumerate((0.1, 0.5, float("nan"), 0.9), 1):
        clock.now += 2.0
        progress.step(report(step, reward))
    with waiting("8 completions on sampler 0"):
        to.print(progress._panel())
    progress.warn("look out")
    progress.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "4 of 60" in text
    assert "0.900  \u2581\u2585 \u2588" in text
    assert "held-out  0.620 [0.560, 0.680] (step 0)" in text
    assert "0:08 elapsed, 1:52 left, 2.0 s/step" in text  # 56 steps of 2 s
    assert re.search(r"training; waiting \d+ s for 8 completions on sampler 0", text)
    assert "warning: look out" in text


def test_a_terminal_without_unicode_gets_ascii(clock: Clock) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    to = Console(file=file, width=80, force_terminal=True, _environ={})
    progress = Progress(to, clock=clock)
    progress.start(2)
    progress.phase("caf\u00e9")
    progress.step(report(1))
    progress.close()
    file.seek(0)
    assert "1 of 2" in file.read()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_display_that_fails_does_not_stop_the_run(clock: Clock, is_terminal: bool) -> None:
    to, file = console(force_terminal=is_terminal)
    progress = Progress(to, clock=clock)
    progress.start(2)
    file.close()
    progress.phase("x")
    progress.step(report(1))
    progress.evaluated("after", HELD_OUT, 1)
    progress.warn("y")
    progress.close()


def test_rich_leaving_on_a_broken_pipe_does_not_stop_the_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    to, _ = console()

    def broken_pipe(*_: Any, **__: Any) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(to, "print", broken_pipe)
    Progress(to, clock=clock).warn("x")
