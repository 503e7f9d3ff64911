"""Sinks get every event in order; one that a run can do without cannot end the run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from rft.errors import OutputError
from rft.events import Event, GraderCallRepeated, Notice, SamplerLost, Warned
from rft.run.reporting.emitter import Emitter


class Recording:
    """Keeps the texts of events, and raises at some of them."""

    def __init__(self, raises: Callable[[str], BaseException | None] = lambda text: None) -> None:
        self.texts: list[str] = []
        self.is_closed = False
        self._raises = raises

    def event(self, event: Event) -> None:
        assert isinstance(event, Notice | Warned)
        if error := self._raises(event.text):
            raise error
        self.texts.append(event.text)

    def close(self) -> None:
        self.is_closed = True


def emit(emitter: Emitter, *texts: str) -> None:
    """Emit notices, and close all sinks."""

    async def job() -> None:
        for text in texts:
            emitter.emit(Notice(text=text))
        await emitter.close_optional()
        emitter.close()

    asyncio.run(job())


def test_every_sink_gets_every_event_in_order() -> None:
    one, other, optional = Recording(), Recording(), Recording()
    emitter = Emitter([one, other], {"tracker": optional})
    emit(emitter, "a", "b", "c")
    assert one.texts == other.texts == optional.texts == ["a", "b", "c"]
    assert one.is_closed and other.is_closed and optional.is_closed
    assert emitter.failures() == {}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such metric"), "test_emitter.py:"),
        (SystemExit(3), "it called sys.exit(3)"),
    ],
)
def test_an_optional_sink_that_raises_is_switched_off_and_warned_about_once(error: BaseException, text: str) -> None:
    terminal, sound = Recording(), Recording()
    failing = Recording(lambda text: error if text == "b" else None)
    emitter = Emitter([terminal], {"my.py:Mine": failing, "sound": sound})
    emit(emitter, "a", "b", "c", "d")
    assert failing.texts == ["a"]
    assert failing.is_closed
    # The warning comes between two events, or after the last one.
    assert [text for text in terminal.texts if len(text) == 1] == ["a", "b", "c", "d"]
    (warning,) = (text for text in terminal.texts if len(text) > 1)
    assert warning.startswith("sink my.py:Mine failed and receives no more events: ")
    assert text in warning
    assert [text for text in sound.texts if len(text) == 1] == ["a", "b", "c", "d"]
    failure = emitter.failures()["my.py:Mine"]
    assert text in str(failure["error"])
    assert failure["missed_events"] in (3, 4)  # b, c, d, and the warning unless the sink was closed by then


def test_an_optional_sink_that_hangs_is_left_behind() -> None:
    terminal = Recording()
    forever = threading.Event()

    class Hanging(Recording):
        def event(self, event: Event) -> None:
            forever.wait()

    emitter = Emitter([terminal], {"slow": Hanging()}, close_s=0.01)
    emit(emitter, "a")
    forever.set()
    notice, warning = terminal.texts
    assert notice == "a"
    assert warning.startswith("sink slow failed and receives no more events: ")
    assert "sink slow to close" in warning


def test_an_optional_sink_that_falls_far_behind_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.run.reporting.emitter.MAX_WAITING_EVENTS", 2)
    terminal, begins, goes_on = Recording(), threading.Event(), threading.Event()

    class Slow(Recording):
        def event(self, event: Event) -> None:
            begins.set()
            goes_on.wait()
            super().event(event)

    slow = Slow()
    emitter = Emitter([terminal], {"slow": slow})
    emitter.emit(Notice(text="a"))
    begins.wait()
    for text in "bcd":  # there is room for two
        emitter.emit(Notice(text=text))
    assert terminal.texts == ["a", "b", "c", "d", "sink slow failed and receives no more events: it is 2 events behind"]
    goes_on.set()
    emit(emitter)
    assert slow.texts == ["a"]
    assert slow.is_closed


def test_a_required_sink_that_raises_ends_the_run() -> None:
    full = OutputError("output folder", ["the disk is full"])
    emitter = Emitter([Recording(lambda text: full)])
    with pytest.raises(OutputError, match="the disk is full"):
        emitter.emit(Notice(text="a"))


def test_texts_are_without_secrets() -> None:
    sink = Recording()
    emitter = Emitter([sink], secrets=["sk-123"])
    emitter.warn("the judge refuses the key sk-123")
    assert sink.texts == ["the judge refuses the key <redacted>"]


def test_every_text_of_an_event_is_without_secrets() -> None:
    class Kept:
        def event(self, event: Event) -> None:
            events.append(event)

        def close(self) -> None:
            pass

    events: list[Event] = []
    emitter = Emitter([Kept()], secrets=["hunter2"])
    emitter.emit(SamplerLost(sampler="sampler 0", reason="the key hunter2 is refused", num_completions=3))
    emitter.emit(GraderCallRepeated(grader="judge", task_id="3f1c", reason="killed: hunter2"))
    emitter.warn("hunter2")
    assert events == [
        SamplerLost(sampler="sampler 0", reason="the key <redacted> is refused", num_completions=3),
        GraderCallRepeated(grader="judge", task_id="3f1c", reason="killed: <redacted>"),
        Warned(text="<redacted>"),
    ]
