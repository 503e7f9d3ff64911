"""Connections through a tunnel, whose ends exchange frames in this process."""

from __future__ import annotations

import asyncio

import pytest

from rft.episodes.tunnel import LOOPBACK, Entrance, Exit

uvloop = pytest.importorskip("uvloop")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back in capitals what was sent until the end of a line, and close."""
    writer.write((await reader.readuntil(b"\n")).upper())
    await writer.drain()
    writer.close()


async def ask(port: int, text: bytes, after: asyncio.Event | None = None) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    if after is not None:
        await after.wait()
    writer.write(text + b"\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_connections_do_not_mix() -> None:
    async def main() -> list[bytes]:
        server = await asyncio.start_server(echo, LOOPBACK, 0, limit=1 << 24)
        exit: Exit
        entrance = Entrance(lambda frame: exit.receive(frame))
        exit = Exit(lambda frame: entrance.receive(frame), server.sockets[0].getsockname()[1])
        port = await entrance.open()
        texts = [b"a", b"b" * 3_000_000, b"c"]
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(ask(port, text) for text in texts))
            assert answers == [text.upper() + b"\n" for text in texts]
            # One that connects first may speak last.
            later = asyncio.Event()
            first = asyncio.create_task(ask(port, b"first", after=later))
            await asyncio.sleep(0)
            assert await ask(port, b"second") == b"SECOND\n"
            later.set()
            assert await first == b"FIRST\n"
            server.close()
            await server.wait_closed()
            answers = [await ask(port, b"d")]  # nobody listens any more
        entrance.close()
        exit.close()
        assert entrance._pipes == exit._pipes == {}
        return answers

    # A host's loop is that of Ray, which takes uvloop.
    assert uvloop.run(main()) == [b""]
