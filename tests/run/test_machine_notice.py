"""Notices that the machine will be taken away, as a file and at an address."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from rft.run.machine_notice import FileNotice, UrlNotice, watched
from rft.terminal.interrupt import NOTICE_EXIT_CODE, Interrupt

URL = "http://169.254.169.254/latest/meta-data/spot/instance-action"


def test_a_file_counts_when_it_appears_or_changes(tmp_path: Path) -> None:
    file = tmp_path / "notice"

    async def job() -> list[bool]:
        first = FileNotice(file)
        before = await first.has_come()
        file.touch()
        appeared = await first.has_come()
        second = FileNotice(file)  # of a run that starts again beside the old file
        unchanged = await second.has_come()
        os.utime(file, (9e8, 9e8))
        return [before, appeared, unchanged, await second.has_come()]

    assert asyncio.run(job()) == [False, True, False, True]


@pytest.mark.parametrize(
    ("status", "text", "has_come"),
    [
        (404, "not found", False),
        (200, '{"action": "terminate", "time": "2026-11-28T22:00:00Z"}', True),  # AWS
        (200, "TRUE", True),  # Google Cloud: preempted
        (200, "FALSE\n", False),
        (200, "NONE", False),
        (200, "", False),
    ],
)
def test_an_address_announces_it_by_its_answer(status: int, text: str, has_come: bool) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, text=text)

    assert asyncio.run(UrlNotice(URL, httpx.MockTransport(answer)).has_come()) is has_come
    assert [(str(request.url), request.headers["Metadata-Flavor"]) for request in asked] == [(URL, "Google")]


def test_version_2_of_awss_service_wants_a_token() -> None:
    tokens: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            tokens.append(f"{request.url} {request.headers['X-aws-ec2-metadata-token-ttl-seconds']}")
            return httpx.Response(200, text="a-token")
        is_allowed = request.headers.get("X-aws-ec2-metadata-token") == "a-token"
        return httpx.Response(404 if is_allowed else 401)

    async def job() -> list[bool]:
        notice = UrlNotice(URL, httpx.MockTransport(answer))
        return [await notice.has_come(), await notice.has_come()]

    assert asyncio.run(job()) == [False, False]
    assert tokens == ["http://169.254.169.254/latest/api/token 21600"], "one token serves many questions"


def raises(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [(lambda request: httpx.Response(500), "it answered with status 500"), (raises, "ConnectError: no route to host")],
)
def test_an_address_that_fails_is_an_error(answer: Callable[[httpx.Request], httpx.Response], problem: str) -> None:
    with pytest.raises(OSError, match=problem):
        asyncio.run(UrlNotice(URL, httpx.MockTransport(answer)).has_come())


def test_a_notice_reaches_the_run(tmp_path: Path) -> None:
    said: list[str] = []

    async def job() -> int | None:
        with Interrupt(said.append) as interrupt:
            async with watched(str(tmp_path / "notice"), said.append, poll_s=0.001):
                (tmp_path / "notice").touch()
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:  # before the first step, there is nothing to wait for
                    return interrupt.exit_code
        return None

    assert asyncio.run(job()) == NOTICE_EXIT_CODE == 75
    assert said == [f"{tmp_path}/notice: this machine will be taken away", "stopping at once"]


def test_an_address_that_fails_is_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked = 0

    async def job() -> None:
        finished = asyncio.Event()

        async def has_come(self: UrlNotice) -> bool:
            nonlocal asked
            asked += 1
            if asked == 3:
                finished.set()
            raise OSError("no route to host")

        monkeypatch.setattr(UrlNotice, "has_come", has_come)
        async with watched(URL, said.append, poll_s=0.001):
            await finished.wait()

    asyncio.run(job())
    expected = f"loop.notice={URL} cannot be read, so no notice will stop the run in time: no route to host"
    assert said == [expected]


def test_without_a_notice_nothing_is_watched() -> None:
    async def job() -> int:
        async with watched(None, lambda _: None):
            return len(asyncio.all_tasks())

    assert asyncio.run(job()) == 1
