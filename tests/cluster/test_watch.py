"""Ray's processes that die or hang under a run."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from rft.cluster import watch
from rft.cluster.watch import RayProcess, watched
from rft.errors import ClusterError, LearnerLost, LearnError, RayLost, SamplersLost

HEAD = RayProcess(name="Ray head", address="10.0.0.1:6379")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a process answers, question by question; the last answer stays."""
    answers: list[bool] = []

    def ask(address: str, *, deadline_s: float) -> None:
        if not (answers.pop(0) if len(answers) > 1 else answers[0]):
            raise ClusterError("no answer")

    monkeypatch.setattr(watch, "check_alive", ask)
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(watch, "SILENCE_S", 0.2)
    return answers


@pytest.fixture
def own(answers: list[bool]) -> Iterator[tuple[RayProcess, subprocess.Popen[bytes]]]:
    """A process that this process has started, and that answers."""
    answers[:] = [True]
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield RayProcess(name="raylet", address="127.0.0.1:1", pid=process.pid, holds_objects=True), process
        process.kill()


async def work_for_ever(*processes: RayProcess) -> None:
    async with watched(processes):
        await asyncio.Event().wait()


def test_a_head_that_is_silent(answers: list[bool]) -> None:
    answers[:] = [True, True, False]
    message = (
        r"the Ray head at 10\.0\.0\.1:6379 has been silent for 0\.2 s while the run was under way; restart the cluster "
        r"and continue from the last checkpoint with resume=<run folder>"
    )
    with pytest.raises(RayLost, match=f"^{message}$"):
        asyncio.run(asyncio.wait_for(work_for_ever(HEAD), 60))


def test_a_short_silence_is_no_death(answers: list[bool]) -> None:
    answers[:] = [False, False, True, False, True]

    async def work() -> str:
        async with watched([HEAD]):
            while len(answers) > 1:
                await asyncio.sleep(0)
            return "done"

    assert asyncio.run(asyncio.wait_for(work(), 60)) == "done"


def test_a_run_that_is_cancelled_from_elsewhere_is_cancelled(answers: list[bool]) -> None:
    answers[:] = [True]

    async def cancelled() -> None:
        task = asyncio.create_task(work_for_ever(HEAD))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_the_death_of_a_raylet_ends_the_run_at_once_and_the_head(
    own: tuple[RayProcess, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 600.0)  # only the death itself can end the wait
    raylet, process = own
    with subprocess.Popen(["sleep", "1000"]) as head:

        async def job() -> None:
            asyncio.get_running_loop().call_later(0.05, process.kill)
            await work_for_ever(RayProcess(name="Ray head", address="127.0.0.1:2", pid=head.pid), raylet)

        message = rf"^the raylet at 127\.0\.0\.1:1 \(process {process.pid}\) has ended while .*; continue from the last"
        with pytest.raises(RayLost, match=message):
            asyncio.run(asyncio.wait_for(job(), 60))
        assert head.wait(60) == -signal.SIGKILL


def test_a_process_that_hangs_ends_the_run_and_stays(
    own: tuple[RayProcess, subprocess.Popen[bytes]], answers: list[bool]
) -> None:
    raylet, process = own
    process.send_signal(signal.SIGSTOP)
    answers[:] = [False]
    with pytest.raises(RayLost, match=r"has been silent for 0\.2 s while"):
        asyncio.run(asyncio.wait_for(work_for_ever(raylet), 60))
    assert process.poll() is None, "its death would end a process that uses an object"


def test_an_error_that_follows_from_the_loss_names_the_loss(own: tuple[RayProcess, subprocess.Popen[bytes]]) -> None:
    raylet, process = own

    async def job() -> None:
        async with watched([raylet]):
            process.kill()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise LearnError("the learner is gone") from None

    with pytest.raises(RayLost, match="the raylet") as caught:
        asyncio.run(asyncio.wait_for(job(), 60))
    assert str(caught.value.__cause__) == "the learner is gone"


@pytest.mark.parametrize("loss", [LearnerLost, SamplersLost])
def test_a_raylet_that_ends_its_workers_before_itself_is_the_cause(
    own: tuple[RayProcess, subprocess.Popen[bytes]], loss: type[Exception]
) -> None:
    raylet, process = own

    async def job() -> None:
        async with watched([raylet]):
            asyncio.get_running_loop().call_later(0.05, process.kill)
            raise loss("its process ended")

    with pytest.raises(RayLost, match="the raylet") as caught:
        asyncio.run(asyncio.wait_for(job(), 60))
    assert str(caught.value.__cause__) == "its process ended"


def test_an_actor_that_is_lost_alone_is_the_cause(
    own: tuple[RayProcess, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FAREWELL_S", 0.05)

    async def job() -> None:
        async with watched([own[0]]):
            raise LearnerLost("its process ended")

    with pytest.raises(LearnerLost, match="its process ended"):
        asyncio.run(job())


def test_an_error_of_another_cause_passes(own: tuple[RayProcess, subprocess.Popen[bytes]]) -> None:
    async def job() -> None:
        async with watched([own[0]]):
            raise LearnError("no more")

    with pytest.raises(LearnError, match="no more"):
        asyncio.run(job())
    assert own[1].poll() is None


def test_a_ray_of_others_has_no_process_to_watch() -> None:
    async def job() -> str:
        async with watched([]):
            return "done"

    assert asyncio.run(job()) == "done"


def test_a_blocked_event_loop_does_not_keep_the_process(
    own: tuple[RayProcess, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(watch, "BLOCKED_S", 0.05)
    monkeypatch.setattr("os._exit", end)

    async def job() -> None:
        async with watched([own[0]]):
            own[1].kill()
            assert ended.wait(60)  # blocks the event loop
            await asyncio.Event().wait()

    with pytest.raises(RayLost):
        asyncio.run(asyncio.wait_for(job(), 60))
    assert codes == [69]
    assert capsys.readouterr().err.startswith("rft: the raylet at 127.0.0.1:1 ")
