"""Checks that start something, each in a process of its own which is killed at its deadline."""

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
from rft.config.schema import LocalClusterConfig

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
from rft.config.schema import AttachClusterConfig
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
    """Ray and its object store, vLLM on the embedded model, and the cluster where one is named."""
    yield trial(
        "Ray and object store",
        RAY_PROGRAM,
        deadline_s=RAY_TIMEOUT_S,
        right="started, an object of 8 MB went to a worker and back",
        remedy="look at shared memory, memory and libraries above; then ray start --head --block shows its own words",
    )
    yield trial(
        "vLLM start",
        VLLM_PROGRAM,
        deadline_s=VLLM_TIMEOUT_S,
        right="the embedded model answered",
        remedy="look at vllm, GPU and memory above; sampler=transformers does without vLLM",
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
        check: What it is about.
        program: In Python; it fails by ending with another code than 0.
        words: Its arguments.
        deadline_s: Seconds.
        right: What to say where it succeeds; None says its last line.
        remedy: What to do where it does not.
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
        return Finding(check=check, state="fail", found=lines[-1] if lines else "it failed silently", remedy=remedy)
    said = right or done.stdout.strip().splitlines()[-1]
    return Finding(check=check, state="ok", found=f"{said} ({time.monotonic() - began:.0f} s)")
