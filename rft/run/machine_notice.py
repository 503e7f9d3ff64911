"""Watches for a notice that this machine will be taken away: a file, or an address of a cloud's metadata service.

Spot machines of AWS announce it at `http://169.254.169.254/latest/meta-data/spot/instance-action`, those of Google
Cloud at `http://metadata.google.internal/computeMetadata/v1/instance/preempted`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rft.terminal.interrupt import tell_listeners_of_notice
from rft.waiting import in_thread

if TYPE_CHECKING:
    import httpx

POLL_S = 5.0
"""Seconds between two looks. AWS announces the end two minutes ahead, Google Cloud half a minute."""
ANSWER_S = 3.0
"""Seconds allowed for an answer of the address."""
_NO_NOTICE = ("", "false", "none")
"""Answers that announce nothing, in lower case."""
_TOKEN = "X-aws-ec2-metadata-token"


@asynccontextmanager
async def watched(where: str | None, warn: Callable[[str], None], *, poll_s: float = POLL_S) -> AsyncIterator[None]:
    """Stop the runs of this process in order when a notice comes during the block.

    Args:
        where: A file, which counts when it appears or changes, or an address; None watches nothing.
        warn: Receives the first failure to look.
        poll_s: Seconds between two looks.
    """
    if where is None:
        yield
        return
    notice = UrlNotice(where) if "://" in where else FileNotice(Path(where))
    task = asyncio.create_task(_watch(notice, where, warn, poll_s), name="machine notice")
    try:
        yield
    finally:
        task.cancel()


async def _watch(notice: FileNotice | UrlNotice, where: str, warn: Callable[[str], None], poll_s: float) -> None:
    has_warned = False
    while True:
        try:
            if await notice.has_come():
                tell_listeners_of_notice(f"{where}: this machine will be taken away")
                return
        except OSError as error:
            if not has_warned:
                warn(f"loop.notice={where} cannot be read, so no notice will stop the run in time: {error}")
            has_warned = True
        await asyncio.sleep(poll_s)


class FileNotice:
    """A notice as a file, which a script or an agent of the cluster writes.

    Args:
        file: The file. A file of an earlier start counts only when it changes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at_start = _state(file)

    async def has_come(self) -> bool:
        """Whether the file has appeared or changed."""
        now = await asyncio.wrap_future(in_thread(lambda: _state(self._file), name="machine notice"))
        return now is not None and now != self._at_start


class UrlNotice:
    """A notice at an address. Every answer with status 200 is one, except an empty one, `FALSE` and `NONE`.

    Args:
        url: The address.
        transport: Sends the requests, for tests; None uses the network.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport
        self._headers = {"Metadata-Flavor": "Google"}

    async def has_come(self) -> bool:
        """Ask the address.

        Raises:
            OSError: The address did not answer, or answered with an error other than 404.
        """
        import httpx

        client = httpx.AsyncClient(transport=self._transport, timeout=ANSWER_S, trust_env=False)
        try:
            async with client:
                answer = await client.get(self._url, headers=self._headers)
                if answer.status_code == httpx.codes.UNAUTHORIZED:  # version 2 of AWS's service wants a token
                    self._headers[_TOKEN] = await _token(client, self._url)
                    answer = await client.get(self._url, headers=self._headers)
        except httpx.HTTPError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        if answer.status_code != httpx.codes.OK:
            raise OSError(f"it answered with status {answer.status_code}")
        return answer.text.strip().lower() not in _NO_NOTICE


async def _token(client: httpx.AsyncClient, url: str) -> str:
    place = urlsplit(url)
    answer = await client.put(
        f"{place.scheme}://{place.netloc}/latest/api/token", headers={f"{_TOKEN}-ttl-seconds": "21600"}
    )
    return answer.text.strip()


def _state(file: Path) -> tuple[int, int] | None:
    """Return modification time and size of a file; None without it."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
