"""Create the environment in `.venv` with the exact versions from `locks/`, for the CPU or for an NVIDIA GPU.

The Makefile calls this script with a supported Python of the machine. The script uses only the standard library and
needs no root. It does nothing if no lock has changed. One line reports a missing program.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "rft-installed"
LOG = VENV / "install.log"
FREE_GB = {"cpu": 8, "cuda": 20}
MIN_DRIVER = 580
"""The first NVIDIA driver for CUDA 13, for which the wheels of torch and vLLM are built."""


def main() -> None:
    """Check the machine, then install."""
    backend = os.environ.get("RFT_BACKEND") or choose_backend(driver_version())
    if backend not in FREE_GB:
        give_up(f"RFT_BACKEND={backend}: must be cpu or cuda")
    lock = ROOT / "locks" / f"{backend}.txt"
    expected = digest(lock, ROOT / "pyproject.toml")
    if STAMP.exists() and STAMP.read_text() == expected:
        return
    check_machine(backend)
    print(f"rft: installing into {VENV} for {backend} ({lock.name}); a few minutes, log in {LOG}", flush=True)
    if not (VENV / "bin" / "python").exists():
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], "python -m venv")
    (torch, rest), (uv_itself, _) = split(lock, "torch"), split(lock, "uv")
    # No dependency resolution: the lock is complete, and omitted packages must not be installed.
    pip("--no-deps", "--require-hashes", "-r", str(uv_itself))
    # PyTorch's CPU build is not on PyPI: pip has it where a mirror is configured, and uv knows PyTorch's own index.
    if not pip("--no-deps", "-r", str(torch), may_fail=backend == "cpu"):
        uv("--torch-backend", "cpu", "-r", str(torch))
    # uv downloads and unpacks side by side, but does not read pip's configuration, such as that of a mirror.
    if not uv("--require-hashes", "-r", str(rest), may_fail=True):
        pip("--no-deps", "--require-hashes", "-r", str(rest))
    pip("--no-deps", "-e", str(ROOT))
    STAMP.write_text(expected)


def driver_version() -> str | None:
    """Return the version of NVIDIA's driver; None if no NVIDIA GPU answers."""
    if shutil.which("nvidia-smi") is None:
        return None
    question = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(question, capture_output=True, text=True, timeout=60, check=False)
    lines = answer.stdout.split() if answer.returncode == 0 else []
    return lines[0] if lines else None


def choose_backend(driver: str | None) -> str:
    """Return the backend for a machine with this driver of NVIDIA; exit if CUDA 13 cannot use the driver."""
    if driver is None:
        return "cpu"
    if int(driver.partition(".")[0]) < MIN_DRIVER:
        give_up(
            f"the NVIDIA driver {driver} is too old for CUDA 13; install {MIN_DRIVER} or newer, or run on the CPU with "
            "RFT_BACKEND=cpu (RFT_BACKEND=cuda installs all the same, for NVIDIA's package cuda-compat)"
        )
    return "cuda"


def check_machine(backend: str) -> None:
    """Report in one line what the machine lacks."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        give_up("python3-venv is missing; install it (Debian, Ubuntu: apt install python3-venv)")
    if platform.machine() == "x86_64" and sys.platform == "linux" and backend == "cpu":
        cpuinfo = Path("/proc/cpuinfo").read_text(errors="replace")
        if "avx2" not in cpuinfo:
            give_up("this processor has no AVX2, which vLLM needs on a CPU; use a newer machine or one with a GPU")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        give_up("a C compiler is missing; install it (Debian, Ubuntu: apt install build-essential)")
    include = Path(sysconfig.get_paths()["include"])
    if backend == "cuda" and not (include / "Python.h").is_file():
        # Triton compiles a launcher for each kernel, and the launcher includes this file.
        give_up(f"{include}/Python.h is missing; install it (Debian, Ubuntu: apt install {include.name}-dev)")
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < FREE_GB[backend]:
        give_up(f"only {free_gb:.1f} GB free in {ROOT}; the environment needs {FREE_GB[backend]} GB")


def split(lock: Path, package: str) -> tuple[Path, Path]:
    """Write the entries of one package of a lock, with their hashes, and all others into two files; return both."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    of_package = [entry for entry in entries if entry.startswith(f"{package}==")]
    files = VENV / f"{package}.txt", VENV / f"without-{package}.txt"
    for file, chosen in zip(files, (of_package, [entry for entry in entries if entry not in of_package]), strict=True):
        file.write_text("\n".join(chosen) + "\n")
    return files


def pip(*arguments: str, may_fail: bool = False) -> bool:
    """Run `pip install` in the environment."""
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install"]
    # Python compiles a module at its first import. Most modules are never imported, and compiling all takes a minute.
    options = ["--disable-pip-version-check", "--no-input", "--no-compile"]
    return run([*command, *options, *arguments], f"pip install {' '.join(arguments)}", may_fail=may_fail)


def uv(*arguments: str, may_fail: bool = False) -> bool:
    """Run `uv pip install --no-deps` in the environment."""
    python = str(VENV / "bin" / "python")
    command = [python, "-m", "uv", "pip", "install", "--python", python, "--no-deps", *arguments]
    return run(command, f"uv pip install {' '.join(arguments)}", may_fail=may_fail)


def run(command: list[str], what: str, may_fail: bool = False) -> bool:
    """Run a command with output to the log; exit with the log's last lines if it fails."""
    VENV.mkdir(exist_ok=True)
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode and not may_fail:
        sys.stderr.write("".join(LOG.open(errors="replace").readlines()[-12:]))
        give_up(f"{what} failed; the whole log is {LOG}")
    return done.returncode == 0


def digest(*files: Path) -> str:
    """Hash the files that determine the environment."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def give_up(message: str) -> NoReturn:
    """Exit with a message of one line."""
    sys.stderr.write(f"rft: {message}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
