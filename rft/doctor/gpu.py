"""Checks of NVIDIA GPUs: the driver, the chip, and the programs that compile kernels at the first start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rft.cluster.nodes import num_gpus_here
from rft.doctor.finding import Finding
from rft.errors import WaitTimeout

GPU_TIMEOUT_S = 20.0
QUERY = ("name", "memory.total", "memory.free", "driver_version", "compute_cap")
"""The fields of nvidia-smi that `Gpu` holds, in its order."""
MIN_DRIVER = 580
"""The first driver for CUDA 13, for which the wheels of torch and vLLM are built."""
MIN_CAPABILITY = (7, 5)
"""The oldest chips (Turing) for which CUDA 13 compiles."""
BFLOAT16_CAPABILITY = (8, 0)
"""The first chips (Ampere) with bfloat16."""
FLASHINFER_MAJOR = 10
"""Major compute capability of the chips, such as B200, on which vLLM prefers FlashInfer's attention."""
WSL_DEVICE = Path("/dev/dxg")
"""The GPU of Windows inside WSL2, which has no /dev/nvidia0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU according to its driver.

    Example:
        Gpu(name="NVIDIA H100", total="81559 MiB", free="81000 MiB", driver="580.95.05", capability=(9, 0))
    """

    name: str
    """Product name."""
    total: str
    """Memory, with its unit."""
    free: str
    """Free memory, with its unit."""
    driver: str
    """Version of the driver."""
    capability: tuple[int, int]
    """Compute capability."""


def gpu_findings() -> Iterator[Finding]:
    """Check the GPUs, if there are any. No GPU is fine; an unusable GPU is a failure."""
    command = shutil.which("nvidia-smi")
    if command is None:
        yield without_driver(is_wsl=WSL_DEVICE.exists())
        return
    try:
        gpus, num_visible = listed(command), num_gpus_here()
    except (OSError, ValueError, subprocess.SubprocessError, WaitTimeout) as error:
        remedy = "run nvidia-smi by hand; in a container, start it with the GPUs (--gpus all)"
        yield Finding(check="GPU", state="fail", found=f"nvidia-smi fails: {error}", remedy=remedy)
        return
    yield visible(gpus, num_visible=num_visible, has_vllm=_is_installed("vllm"))
    if not gpus:
        return
    yield driver(gpus[0].driver)
    yield chip(min(gpus, key=lambda gpu: gpu.capability))
    yield compiler(next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None))
    yield python_headers(Path(sysconfig.get_paths()["include"]))
    compiles = all(map(shutil.which, ("nvcc", "ninja"))) and not _is_installed("flashinfer-cubin")
    if compiles and any(gpu.capability[0] == FLASHINFER_MAJOR for gpu in gpus):
        yield flashinfer()


def listed(command: str) -> list[Gpu]:
    """Return the GPUs that nvidia-smi lists.

    Args:
        command: Path of nvidia-smi.

    Raises:
        OSError, SubprocessError: nvidia-smi could not be run, failed, or exceeded its deadline.
        ValueError: nvidia-smi printed something else.
    """
    command_line = [command, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    output = subprocess.run(command_line, capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=True).stdout
    gpus = []
    for line in filter(str.strip, output.splitlines()):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(QUERY):
            raise ValueError(f"unexpected output: {line!r}")
        name, total, free, version, capability = fields
        major, _, minor = capability.partition(".")
        gpus.append(Gpu(name=name, total=total, free=free, driver=version, capability=(int(major), int(minor))))
    return gpus


def without_driver(*, is_wsl: bool) -> Finding:
    """Report a machine without nvidia-smi, which under WSL2 may only be missing from PATH."""
    if is_wsl:
        remedy = "to use an NVIDIA GPU: export PATH=$PATH:/usr/lib/wsl/lib"
        return Finding(check="GPU", state="warn", found="WSL2 without nvidia-smi on PATH", remedy=remedy)
    return Finding(check="GPU", state="ok", found="none; all parts run on the CPU")


def visible(gpus: Sequence[Gpu], *, num_visible: int, has_vllm: bool) -> Finding:
    """Check that rft can use the GPUs of the driver.

    Args:
        gpus: The GPUs that the driver lists.
        num_visible: Number of GPUs that rft would use.
        has_vllm: Whether vLLM's build for GPUs is installed.
    """
    text = "; ".join(f"{gpu.name}, {gpu.total}, {gpu.free} free" for gpu in gpus) or "none listed"
    if gpus and not has_vllm:
        remedy = "pip install 'rft[cuda]', so that vLLM and torch use them"
        return Finding(check="GPU", state="warn", found=f"{text}, but no vLLM", remedy=remedy)
    if num_visible != len(gpus):
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        return Finding(
            check="GPU",
            state="warn",
            found=f"{text}; rft sees {num_visible} of {len(gpus)}",
            remedy="unset CUDA_VISIBLE_DEVICES to use all of them" if devices is not None else "restart the driver",
        )
    return Finding(check="GPU", state="ok", found=text)


def driver(version: str) -> Finding:
    """Check the version of NVIDIA's driver."""
    remedy = (
        f"install driver {MIN_DRIVER} or newer, or rent a machine with an image for CUDA 13"
        if int(version.partition(".")[0]) < MIN_DRIVER
        else ""
    )
    found = f"{version}, too old for CUDA 13" if remedy else version
    return Finding(check="NVIDIA driver", state="fail" if remedy else "ok", found=found, remedy=remedy)


def chip(gpu: Gpu) -> Finding:
    """Check that the libraries support a chip, and that the chip has bfloat16."""
    version = ".".join(map(str, gpu.capability))
    found = f"{gpu.name}: {version}"
    if gpu.capability < MIN_CAPABILITY:
        remedy = "use a GPU of compute capability 7.5 or newer (Turing, Ampere, ...)"
        return Finding(check="compute capability", state="fail", found=f"{found}, too old for CUDA 13", remedy=remedy)
    if gpu.capability < BFLOAT16_CAPABILITY:
        remedy = "set model.dtype=float16 (see docs/gpu.md), or use a GPU of compute capability 8.0 or newer"
        return Finding(check="compute capability", state="warn", found=f"{found}, without bfloat16", remedy=remedy)
    return Finding(check="compute capability", state="ok", found=found)


def compiler(path: str | None) -> Finding:
    """Check for a C compiler: Triton builds the launchers of its kernels with it."""
    if path is None:
        remedy = "install one (Debian, Ubuntu: apt install build-essential)"
        return Finding(check="C compiler", state="fail", found="none; Triton needs one", remedy=remedy)
    return Finding(check="C compiler", state="ok", found=path)


def python_headers(include: Path) -> Finding:
    """Check for Python.h, which the launchers of Triton's kernels include.

    Args:
        include: Folder of this Python's headers.
    """
    if (include / "Python.h").is_file():
        return Finding(check="Python.h", state="ok", found=str(include))
    return Finding(
        check="Python.h",
        state="fail",
        found=f"missing in {include}; Triton needs it",
        remedy=f"install this Python's headers (Debian, Ubuntu: apt install {include.name}-dev)",
    )


def flashinfer() -> Finding:
    """Warn that FlashInfer compiles its kernels at the first start, because nvcc and ninja are installed."""
    return Finding(
        check="FlashInfer",
        state="warn",
        found="nvcc and ninja are on PATH, flashinfer-cubin is not installed: the first start may compile for minutes",
        remedy="run `vllm download-kernels` beforehand, remove ninja from PATH, or raise sampler.start_timeout_s",
    )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
