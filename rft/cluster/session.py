"""Ray for as long as a run lasts: started on this machine, or a cluster that runs already and stays as it is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import rft
from rft.cluster.nodes import num_gpus_here
from rft.cluster.reach import WHAT_TO_DO, check_alive, find_address
from rft.cluster.watch import watched
from rft.config.schema import AttachCluster, LocalCluster
from rft.errors import ClusterError, WaitTimeout
from rft.waiting import blocking, wait_for

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, Ray gives its processes the address 127.0.0.1, and they listen there alone. Elsewhere than on Linux that is
Ray's own default."""

LOCAL = "local"
"""Instead of an address: a Ray that was started for the run."""

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray sets for the entrypoint of `ray job submit`."""


REFUSED = (
    "the head is alive, so the token or the version must be another: set RAY_AUTH_MODE=token, put the head's token "
    "(there: `ray get-auth-token`) into ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, and run the same Ray "
    "and Python"
)


@asynccontextmanager
async def ray_session(config: LocalCluster | AttachCluster, *, num_processes: int) -> AsyncIterator[str]:
    """Connect to Ray; only what was started here is stopped at the end.

    Args:
        config: `local` or `attach`. Inside a Ray job, or where this process is connected already, both attach.
        num_processes: Actors to be placed, one CPU each.

    Yields:
        The address; `LOCAL` where Ray was started for the run.

    Raises:
        ClusterError: There is no cluster at the address, or it refuses.
        WaitTimeout: Ray did not start in time.
    """
    import ray

    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
    elif not starts_ray(config):
        attach = config if isinstance(config, AttachCluster) else AttachCluster(start_timeout_s=config.start_timeout_s)
        address = await _attach(attach)
        is_reachable = True
        try:
            async with watched(address):
                yield address
        except ClusterError:
            is_reachable = False  # and so to disconnect would wait for what is not there
            raise
        finally:
            if is_reachable:
                ray.shutdown()  # of the connection; the cluster stays
    else:
        with _on_loopback():
            try:
                # In a thread that stays: the kernel ends Ray's processes together with the thread that started them.
                starting = asyncio.to_thread(_start, num_processes)
                await wait_for(starting, what="Ray to start", deadline_s=config.start_timeout_s)
                yield LOCAL
            finally:
                ray.shutdown()


def starts_ray(config: LocalCluster | AttachCluster) -> bool:
    """Whether a session would start a Ray of its own: not inside of one."""
    import ray

    return isinstance(config, LocalCluster) and JOB_CONFIG not in os.environ and not ray.is_initialized()


def _start(num_processes: int) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=max(num_processes, os.cpu_count() or 1),
        num_gpus=num_gpus_here(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=True,
    )


async def _attach(config: AttachCluster) -> str:
    """Connect to a running cluster; return its address."""
    import ray
    from ray.exceptions import RayError

    deadline_s = config.start_timeout_s
    address = await blocking(lambda: find_address(config.address), what="a Ray cluster", deadline_s=deadline_s)
    # It ends by itself; the second more lets its own message out.
    await blocking(lambda: check_alive(address, deadline_s=deadline_s), what="the Ray head", deadline_s=deadline_s + 1)
    runtime_env = _code() if config.ship_code else None

    def connect() -> None:
        ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level="ERROR")

    try:
        await blocking(connect, what=f"the Ray cluster at {address}", deadline_s=deadline_s)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"the Ray cluster at {address} refuses: {_reason(error)}; {REFUSED}") from error
    except WaitTimeout as error:
        raise ClusterError(
            f"the Ray cluster at {address} did not take this process in within {deadline_s:g} s "
            f"(cluster.start_timeout_s); {WHAT_TO_DO}"
        ) from error
    return address


def _code() -> dict[str, Any] | None:
    """This package, for the nodes; None where the Ray job brings modules of its own."""
    job = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    if (job.get("runtime_env") or {}).get("py_modules"):
        return None
    return {"py_modules": [str(Path(rft.__file__).parent)], "excludes": ["__pycache__"]}


def _reason(error: BaseException) -> str:
    """What is behind it: Ray wraps the cause in errors that say less, and ends its story with it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started here listens on this machine alone."""
    from ray._private import ray_constants

    before = os.environ.get(LOOPBACK_SWITCH), ray_constants.ENABLE_RAY_CLUSTER
    if before[0] is None:
        os.environ[LOOPBACK_SWITCH], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        if before[0] is None:
            del os.environ[LOOPBACK_SWITCH]
            ray_constants.ENABLE_RAY_CLUSTER = before[1]
