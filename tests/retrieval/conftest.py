from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.retrieval.voyage_server import VoyageServer


@pytest.fixture(scope="session")
def _voyage_server() -> Iterator[VoyageServer]:
    server = VoyageServer()
    yield server
    server.close()


@pytest.fixture
def voyage(_voyage_server: VoyageServer, monkeypatch: pytest.MonkeyPatch) -> VoyageServer:
    """A server on loopback that checks and answers like VoyageAI's API; its key is in VOYAGE_API_KEY."""
    _voyage_server.reset()
    monkeypatch.setenv("VOYAGE_API_KEY", _voyage_server.KEY)
    return _voyage_server


@pytest.fixture(autouse=True)
def asked_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that services asked for before an attempt, in seconds; none is made."""
    asked: list[float] = []

    def no_pause(attempt: int, backoff_s: float, asked_s: float) -> float:
        asked.append(asked_s)
        return 0.0

    monkeypatch.setattr("rft.grading.clients.http.pause_s", no_pause)
    monkeypatch.setattr("rft.grading.clients.model_client.pause_s", no_pause)
    return asked
