"""Addresses behind which there is no living head, each found out at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from rft.cluster.head_check import PREFACE, check_alive, find_address
from rft.errors import ClusterError


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def answers(server: socket.socket, data: bytes) -> list[bytes]:
    """Answer one connection with these bytes; the list fills with what was received."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            received.append(connection.recv(len(PREFACE), socket.MSG_WAITALL))
            connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return received


def test_a_server_that_speaks_http2(listening: socket.socket) -> None:
    # RFC 9113, section 6.5: length 6, type 4, no flags, stream 0, then one setting.
    received = answers(listening, bytes.fromhex("00000604000000000000037fffffff"))
    check_alive(address_of(listening), deadline_s=20)
    assert received[0].startswith(b"PRI * HTTP/2.0\r\n")


def test_something_else_listens(listening: socket.socket) -> None:
    answers(listening, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ClusterError, match=f"what listens at {address_of(listening)} is no Ray head"):
        check_alive(address_of(listening), deadline_s=20)


def test_a_head_that_is_silent(listening: socket.socket) -> None:
    # The kernel takes the connection; nobody answers. A stopped process looks like that.
    with pytest.raises(ClusterError, match=r"gave no answer within 0\.2 s: it is dead, stopped or behind a firewall"):
        check_alive(address_of(listening), deadline_s=0.2)


def test_nothing_listens(listening: socket.socket) -> None:
    address = address_of(listening)
    listening.close()
    with pytest.raises(ClusterError, match=f"no Ray head at {address}: Connection refused; look there with `ray st"):
        check_alive(address, deadline_s=20)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.0.1", "write auto or <host>:<port>"),
        (":6379", "write auto or <host>:<port>"),
        ("head:port", "write auto or <host>:<port>"),
        ("ray://head:10001", "Ray Client cannot stream completions"),
    ],
)
def test_addresses_that_cannot_be(address: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        find_address(address)
    assert str(caught.value).startswith(f"cluster.address={address}: ")


def test_addresses_as_given_and_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert find_address("10.0.0.1:6379") == "10.0.0.1:6379"
    assert find_address("auto") == "10.0.0.7:6379"


def test_auto_where_there_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda address: None)
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS is not set and no Ray runs on this machine; .* `ray start"):
        find_address("auto")
