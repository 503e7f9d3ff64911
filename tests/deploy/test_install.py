"""scripts/install.py on machines that are made up."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

INSTALL = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "install.py"))
HERE = INSTALL["check_machine"].__globals__


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [(0, "580.95.05\n580.95.05\n", "580.95.05"), (9, "no devices were found\n", None), (0, "", None)],
)
def test_the_version_of_the_driver(
    monkeypatch: pytest.MonkeyPatch, code: int, output: str, expected: str | None
) -> None:
    monkeypatch.setattr(HERE["shutil"], "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=code, stdout=output))
    assert INSTALL["driver_version"]() == expected


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HERE["shutil"], "which", lambda name: None)
    assert INSTALL["driver_version"]() is None


def test_the_backend_follows_the_driver(capsys: pytest.CaptureFixture[str]) -> None:
    choose = INSTALL["choose_backend"]
    assert (choose(None), choose("580.65.06"), choose("590.1")) == ("cpu", "cuda", "cuda")
    with pytest.raises(SystemExit):
        choose("550.54.15")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("rft: the NVIDIA driver 550.54.15 is too old for CUDA 13; install 580 or newer")


@pytest.mark.skipif(sys.platform != "linux", reason="the installation is for Linux")
def test_headers_are_needed_on_gpus_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = HERE["sysconfig"].get_paths()

    def machine(headers: bool) -> Any:
        include = tmp_path / str(headers) / "python3.12"
        include.mkdir(parents=True)
        if headers:
            (include / "Python.h").touch()
        monkeypatch.setattr(HERE["sysconfig"], "get_paths", lambda *_: {**paths, "include": str(include)})
        return INSTALL["check_machine"]

    monkeypatch.setattr(HERE["shutil"], "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(HERE["shutil"], "disk_usage", lambda folder: SimpleNamespace(free=100e9))
    machine(headers=True)("cuda")
    check = machine(headers=False)
    with pytest.raises(SystemExit):
        check("cuda")
    assert "python3.12/Python.h is missing; install it (Debian, Ubuntu: apt install python3.12-dev)" in (
        capsys.readouterr().err
    )


def test_a_lock_is_split_with_its_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(HERE, "VENV", tmp_path)
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "# by make lock\n"
        "torch==2.13.0 ; sys_platform == 'darwin' \\\n    --hash=sha256:aa\n"
        "torch==2.13.0+cpu ; sys_platform == 'linux' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "torchmetrics==1.0\n"
        "uv==0.13.8\n"
    )
    torch, rest = INSTALL["split"](lock, "torch")
    assert torch.read_text() == (
        "torch==2.13.0 ; sys_platform == 'darwin' \\\n    --hash=sha256:aa\n"
        "torch==2.13.0+cpu ; sys_platform == 'linux' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    )
    assert rest.read_text() == "# by make lock\ntorchmetrics==1.0\nuv==0.13.8\n"
