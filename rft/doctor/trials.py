"""Checks that start Ray or vLLM, each in its own process with a deadline."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from rft.doctor.finding import Finding

RAY_TIMEOUT_S = 120.0
VLLM_TIMEOUT_S = 300.0
CLUSTER_TIMEOUT_S = 60.0

RAY_PROGRAM = """
import asyncio
from rft.cluster import ray_session
from rft.config.clusters import LocalClusterConfig

async def main():
    import ray
    async with ray_session(LocalClusterConfig(), num_processes=1):
        data = bytes(8_000_000)
        assert ray.get(ray.remote(lambda data: len(data)).remote(ray.put(data))) == len(data)

asyncio.run(main())
"""
VLLM_PROGRAM = """
from rft.cli import main
main(["sample", "State the final answer to the following arithmetic problem: 4 + 5 =",
      "--model", "embedded:tiny", "--max-tokens", "8", "--temperature", "0"])
"""
CLUSTER_PROGRAM = """
import asyncio, sys
from rft.cluster import ray_session
from rft.cluster.nodes import nodes_of_cluster
from rft.cluster.seating import there_is
from rft.config.clusters import AttachClusterConfig
from rft.errors import RftError

async def main():
    config = AttachClusterConfig(address=sys.argv[1], start_timeout_s=30, ship_code=False)
    async with ray_session(config, num_processes=1):
        print(there_is(nodes_of_cluster()))

try:
    asyncio.run(main())
except RftError as error:
    sys.exit(str(error))
"""


def trial_findings(cluster: str | None) -> Iterator[Finding]:
    """Check Ray and its object store, vLLM with the embedded model, and a given cluster."""
    yield trial(
        "Ray and object store",
        RAY_PROGRAM,
        deadline_s=RAY_TIMEOUT_S,
        right="started; an object of 8 MB went to a worker and back",
        remedy="check shared memory, memory and libraries above; ray start --head --block shows Ray's own messages",
    )
    yield trial(
        "vLLM start",
        VLLM_PROGRAM,
        deadline_s=VLLM_TIMEOUT_S,
        right="the embedded model answered",
        remedy="check vllm, GPU and memory above; sampler=transformers does not need vLLM",
    )
    if cluster is not None:
        yield trial(
            "cluster",
            CLUSTER_PROGRAM,
            cluster,
            deadline_s=CLUSTER_TIMEOUT_S,
            right=None,
            remedy="see docs/cluster.md",
        )


def trial(check: str, program: str, *words: str, deadline_s: float, right: str | None, remedy: str) -> Finding:
    """Run a program.

    Args:
        check: Subject of the check.
        program: Python code; an exit code other than 0 is a failure.
        words: Arguments of the program.
        deadline_s: Seconds until the deadline.
        right: Text for a success; None uses the last line of output.
        remedy: Remedy for a failure.
    """
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(check=check, state="fail", found=f"no answer within {deadline_s:g} s", remedy=remedy)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        return Finding(
            check=check, state="fail", found=lines[-1] if lines else "failed without a message", remedy=remedy
        )
    answer = right or done.stdout.strip().splitlines()[-1]
    return Finding(check=check, state="ok", found=f"{answer} ({time.monotonic() - began:.0f} s)")
