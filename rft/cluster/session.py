"""A Ray session for a run: rft starts Ray on this machine, or attaches to an existing cluster and leaves it running."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import rft
from rft.cluster.head_check import WHAT_TO_DO, check_alive, find_address
from rft.cluster.nodes import num_gpus_here
from rft.cluster.own_ray import few_processes
from rft.cluster.watch import RayProcess, own_processes, watched
from rft.config.clusters import AttachClusterConfig, LocalClusterConfig
from rft.errors import ClusterError, RayLost, WaitTimeout
from rft.reliability.durable import free_mb
from rft.reliability.limits import remedy_of_few_threads, remedy_of_limit
from rft.terminal.interrupt import listen_again
from rft.waiting import blocking, in_thread, wait_for, waiting

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, Ray's processes listen on 127.0.0.1 only. This is Ray's default on other systems than Linux."""

MIN_FREE_MB = 10.0
"""Free space in Ray's temporary folder below which a start fails for lack of it, in millions of bytes."""

STOP_S = 60.0
"""Deadline of Ray's end, which takes about a second."""

LOCAL = "local"
"""Replaces the address if rft started Ray for the run."""

JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets for the entrypoint of `ray job submit`."""

REFUSED = (
    "the head is alive, so the token or the version differs: set RAY_AUTH_MODE=token, put the head's token "
    "(there: `ray get-auth-token`) into ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, and run the same Ray "
    "and Python"
)


@asynccontextmanager
async def ray_session(config: LocalClusterConfig | AttachClusterConfig, *, num_processes: int) -> AsyncIterator[str]:
    """Connect to Ray. At the end, stop Ray only if this function started it.

    Args:
        config: `local` or `attach`. Inside a Ray job, or if this process is already connected, both attach.
        num_processes: Number of actors, one CPU each.

    Yields:
        The address; `LOCAL` if Ray was started for the run.

    Raises:
        ClusterError: The address has no cluster, or the cluster refuses the connection.
        WaitTimeout: Ray did not start in time.
    """
    import ray

    global _ahead
    starting, _ahead = _ahead, None
    if starting is not None:
        with _stopping_ray():
            async with _own_ray(starting, config.start_timeout_s):
                yield LOCAL
    elif ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
    elif not starts_ray(config):
        attach = (
            config
            if isinstance(config, AttachClusterConfig)
            else AttachClusterConfig(start_timeout_s=config.start_timeout_s)
        )
        address = await _attach(attach)
        listen_again()
        with _stopping_ray(unless=ClusterError):  # stops the connection; the cluster stays
            async with watched([RayProcess(name="Ray head", address=address)]):
                yield address
    else:
        with ray_ahead(config, num_processes=num_processes) as starting:
            _ahead = None
            async with _own_ray(starting, config.start_timeout_s):
                yield LOCAL


@contextmanager
def ray_ahead(config: LocalClusterConfig | AttachClusterConfig, *, num_processes: int) -> Iterator[Future[None]]:
    """Start Ray in another thread; a `ray_session` within the block uses this Ray.

    `ray_session` handles existing clusters. At the end of the block, a Ray that was started here is stopped.

    Args:
        config: Like in `ray_session`.
        num_processes: Like in `ray_session`.

    Yields:
        A future that completes when Ray is ready, or fails with the reason.
    """
    global _ahead
    started: Future[None] = Future()
    started.set_running_or_notify_cancel()  # a cancelled wait does not cancel the start
    if not starts_ray(config):
        yield started
        return
    ended = threading.Event()

    def start() -> None:
        try:
            _start(num_processes, deadline_s=config.start_timeout_s)
            started.set_result(None)
        except BaseException as error:  # raised again by the waiter
            started.set_exception(error)
        ended.wait()  # the kernel stops Ray's processes together with the thread that started them

    with _on_loopback():
        in_thread(start, name="Ray")
        _ahead = started
        with _stopping_ray(then=ended.set):
            try:
                yield started
            finally:
                _ahead = None
                with waiting("the start of Ray, to stop it again", deadline_s=config.start_timeout_s):
                    wait([started], timeout=config.start_timeout_s)


_ahead: Future[None] | None = None
"""Future of the Ray of `ray_ahead`. A process has at most one Ray."""


@contextmanager
def _stopping_ray(*, unless: type[ClusterError] = RayLost, then: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Stop Ray, or disconnect from it, at the end of the block.

    Args:
        unless: Error after which Ray is left as it is, because it would wait for a lost process.
        then: Called after Ray was stopped.
    """
    try:
        yield
    except unless:
        raise
    except BaseException as error:
        try:
            _shut_down()
        except RayLost as lost:
            lost.add_note(f"Before that: {str(error) or type(error).__name__}")
            raise
        then()
        raise
    else:
        _shut_down()
        then()


def _shut_down() -> None:
    """Stop Ray, or disconnect from it.

    Raises:
        RayLost: A process of Ray hangs; Ray itself would wait for it forever.
    """
    import ray

    with waiting("Ray to stop", deadline_s=STOP_S):
        try:
            in_thread(ray.shutdown, name="end of Ray").result(timeout=STOP_S)
        except TimeoutError as error:
            raise RayLost(
                f"Ray did not stop within {STOP_S:g} s, so one of its processes hangs; if the run is not complete, "
                "continue from the last checkpoint with resume=<run folder>"
            ) from error


@asynccontextmanager
async def _own_ray(starting: Future[None], deadline_s: float) -> AsyncIterator[None]:
    """Wait until the Ray of this process has started, and watch its processes."""
    try:
        await wait_for(asyncio.wrap_future(starting), what="Ray to start", deadline_s=deadline_s)
    except WaitTimeout as error:
        if few := remedy_of_few_threads():
            error.add_note(few)
        raise
    except Exception as error:  # Ray raises errors of many types
        raise ClusterError(f"Ray did not start: {_reason(error)}; {_remedy(error)}") from error
    listen_again()
    async with watched(own_processes()):
        yield


def _remedy(error: Exception) -> str:
    """Return what to do about a Ray that did not start."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if (limit := remedy_of_limit(error)) is not None:
        return limit
    if "AF_UNIX path length" in str(error):
        return f"set RAY_TMPDIR to a folder with a shorter path than {folder}"
    if (free := free_mb(Path(folder))) < MIN_FREE_MB:
        return f"make room in {folder} ({free:.0f} MB free), or set RAY_TMPDIR to another folder"
    if (few := remedy_of_few_threads()) is not None:  # Ray reports a process that could not start as a missing file
        return few
    return f"rft doctor checks this machine; Ray's logs are in {folder}/ray/session_latest/logs"


def starts_ray(config: LocalClusterConfig | AttachClusterConfig) -> bool:
    """Whether a session would start its own Ray; inside another session it would not."""
    ray = sys.modules.get("ray")  # while nobody has imported Ray, it is not initialized; the core has none to import
    is_connected = ray is not None and ray.is_initialized()
    return isinstance(config, LocalClusterConfig) and JOB_CONFIG not in os.environ and not is_connected


def _start(num_processes: int, *, deadline_s: float) -> None:
    import ray

    with few_processes():
        ray.init(
            address="local",
            num_cpus=max(num_processes, os.cpu_count() or 1),
            num_gpus=num_gpus_here(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
            _system_config={"agent_register_timeout_ms": int(deadline_s * 1000)},
        )


async def _attach(config: AttachClusterConfig) -> str:
    """Connect to an existing cluster and return its address."""
    import ray
    from ray.exceptions import RayError

    deadline_s = config.start_timeout_s
    address = await blocking(lambda: find_address(config.address), what="a Ray cluster", deadline_s=deadline_s)
    # The check has its own deadline; the extra second lets its message through.
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
            f"the Ray cluster at {address} did not accept this process within {deadline_s:g} s "
            f"(cluster.start_timeout_s); {WHAT_TO_DO}"
        ) from error
    return address


def _code() -> dict[str, Any] | None:
    """Return this package for the nodes; None if the Ray job provides its own modules."""
    job = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    if (job.get("runtime_env") or {}).get("py_modules"):
        return None
    return {"py_modules": [str(Path(rft.__file__).parent)], "excludes": ["__pycache__"]}


def _reason(error: BaseException) -> str:
    """Return the cause of an error, which Ray wraps in less informative errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray listen on this machine only."""
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
