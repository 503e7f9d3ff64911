"""Checks for a live Ray head at an address. Ray itself would wait for minutes."""

from __future__ import annotations

import os
import socket
import time

from rft.errors import ClusterError

# The start of every HTTP/2 connection, which is what gRPC speaks: the preface and an empty SETTINGS frame
# (RFC 9113, sections 3.4 and 6.5). A living server answers with its own SETTINGS.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS = 4

WHAT_TO_DO = (
    "look there with `ray status`, start a head with `ray start --head`, give another cluster.address, or leave "
    "cluster=attach out to run on this machine alone"
)


def find_address(address: str) -> str:
    """Return the `host:port` of the head. `auto` reads RAY_ADDRESS, or uses the Ray of this machine.

    Raises:
        ClusterError: No Ray is available, or the address is Ray Client's `ray://`.
    """
    given = f"cluster.address={address}"
    head = address
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        head = os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address("auto") or ""
        if not head or head == "auto":
            raise ClusterError(f"{given}: RAY_ADDRESS is not set and no Ray runs on this machine; {WHAT_TO_DO}")
        given = f"cluster.address=auto, which is {head}"
    if head.startswith("ray://"):
        raise ClusterError(
            f"{given}: Ray Client cannot stream completions; run rft on a node of the cluster with "
            "cluster.address=auto, or submit it with `ray job submit -- rft train ...`"
        )
    host, _, port = head.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{given}: write auto or <host>:<port>, such as 10.0.0.1:6379")
    return head


def check_alive(address: str, *, deadline_s: float) -> None:
    """Check that a gRPC server answers at an address. Blocks.

    Args:
        address: From `find_address`.
        deadline_s: Seconds until the deadline.

    Raises:
        ClusterError: No server listens there, or the server gives no answer or a wrong one.
    """
    host, _, port = address.rpartition(":")
    ends = time.monotonic() + deadline_s
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=deadline_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # all further data would be encrypted
            connection.sendall(PREFACE)
            answer = b""
            while len(answer) < 4 and (left := ends - time.monotonic()) > 0:
                connection.settimeout(left)
                if not (received := connection.recv(9)):
                    break
                answer += received
    except TimeoutError as error:
        raise ClusterError(
            f"the Ray head at {address} gave no answer within {deadline_s:g} s: it is dead, stopped or behind a "
            f"firewall; {WHAT_TO_DO}"
        ) from error
    except OSError as error:
        raise ClusterError(f"no Ray head at {address}: {error.strerror or error}; {WHAT_TO_DO}") from error
    if len(answer) < 4 or answer[3] != SETTINGS:
        raise ClusterError(f"what listens at {address} is no Ray head: it does not speak gRPC; {WHAT_TO_DO}")
