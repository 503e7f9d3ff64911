"""Whether there is a living Ray head at an address, found out before Ray itself, which would wait for minutes."""

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
    """The `host:port` of the head: as given, or for `auto` from RAY_ADDRESS or the Ray that runs on this machine.

    Raises:
        ClusterError: There is none, or Ray Client's `ray://` was given.
    """
    asked = f"cluster.address={address}"
    found = address
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        found = os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address("auto") or ""
        if not found or found == "auto":
            raise ClusterError(f"{asked}: RAY_ADDRESS is not set and no Ray runs on this machine; {WHAT_TO_DO}")
        asked = f"cluster.address=auto, which is {found}"
    if found.startswith("ray://"):
        raise ClusterError(
            f"{asked}: Ray Client cannot stream completions; start rft on a node of the cluster with "
            "cluster.address=auto, or send it there with `ray job submit -- rft train ...`"
        )
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{asked}: write auto or <host>:<port>, as 10.0.0.1:6379")
    return found


def check_alive(address: str, *, deadline_s: float) -> None:
    """Make sure that a gRPC server answers at an address. Blocks.

    Args:
        address: From `find_address`.
        deadline_s: Seconds.

    Raises:
        ClusterError: Nothing listens there, or what does gives no answer, or the wrong one.
    """
    host, _, port = address.rpartition(":")
    ends = time.monotonic() + deadline_s
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=deadline_s) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # what follows would be encrypted
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
