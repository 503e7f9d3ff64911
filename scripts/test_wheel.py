"""Build the wheel, install its core into a fresh environment, and use it there. The exit code is 1 after a fault.

    python scripts/test_wheel.py

The core, from `pip install rft`, must grade, audit, check and serve without torch, Ray, vLLM, `datasets` and pyarrow.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fresh_environment import ROOT, FreshEnvironment, build_wheel

ABSENT = ("torch", "ray", "vllm", "trl", "peft", "accelerate", "datasets", "pyarrow", "pandas", "matplotlib", "scipy")
"""Import names of packages that the core must not install."""
SHIPPED = {"rft": "rft", "graders": "graders", "hydra_plugins": "hydra_plugins", "conf": "rft/conf"}
"""Folders of the checkout in the wheel, and their places there."""
GRADERS = """
def correct(completion, task):
    return completion.strip() == task.item["answer"]
"""
TASKS = [{"prompt": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(8)]
COMPLETIONS = [{**task, "completion": task["answer"] if index else "7"} for index, task in enumerate(TASKS)]
RUN = ("model.path=embedded:tiny", "data.train=tasks.jsonl", "graders.correct.use=my_graders.py:correct")
FIND_ABSENT = f"""
import importlib.util
print(*[name for name in {ABSENT} if importlib.util.find_spec(name)])
"""


class WheelError(Exception):
    """The wheel or its installation has a fault."""


def main() -> None:
    """Build, install and use the wheel."""
    with tempfile.TemporaryDirectory(prefix="rft-wheel-") as name:
        folder = Path(name)
        wheel = build_wheel(folder / "dist")
        _check_content(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        environment = FreshEnvironment(folder / "environment", [str(wheel)])
        work = folder / "work"
        work.mkdir()
        (work / "my_graders.py").write_text(GRADERS)
        (work / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
        (work / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in COMPLETIONS))
        (work / "tasks.parquet").write_bytes(b"PAR1")
        _check_packages(environment, work)
        _check_commands(environment, work)
        _check_missing_extras(environment, work)
    print("the core works without " + ", ".join(ABSENT))


def _check_content(wheel: Path) -> None:
    """Compare the wheel with the checkout: Python files, presets, templates, and the embedded model and tasks."""
    expected = {
        f"{target}/{file.relative_to(ROOT / source)}"
        for source, target in SHIPPED.items()
        for file in (ROOT / source).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    if names != expected:
        raise WheelError(
            f"{wheel.name} lacks {sorted(expected - names)}, and should not contain {sorted(names - expected)}"
        )


def _check_packages(environment: FreshEnvironment, folder: Path) -> None:
    present = environment.run("python", "-c", FIND_ABSENT, folder=folder).stdout.split()
    if present:
        raise WheelError(f"the core installs {', '.join(present)}")


def _check_commands(environment: FreshEnvironment, folder: Path) -> None:
    """Run the commands of the core."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    metadata = "from importlib.metadata import version; print(version('rft'))"
    _expect(environment, folder, ["--version"], code=0, text=f"rft {version}\n")
    _expect(environment, folder, ["-c", metadata], program="python", code=0, text=f"{version}\n")
    _expect(environment, folder, ["--help"], code=0, text="rft train experiment=quickstart")
    _expect(environment, folder, ["train", "--help"], code=0, text="loop.steps")
    _expect(environment, folder, ["config", "loop.steps"], code=0, text="loop.steps")
    _expect(environment, folder, ["check", *RUN], code=0, text="the run can start once its packages are installed")
    audit = ["audit", "data=tasks.jsonl", RUN[2], "output_dir=audit"]
    _expect(environment, folder, audit, code=0, text="audit")
    _expect(environment, folder, ["grade", "data=completions.jsonl", RUN[2], "output_dir=graded"], code=0, text="0.875")
    summary = json.loads((folder / "graded" / "summary.json").read_text())
    if summary["reward"]["mean"] != 7 / 8:
        raise WheelError(f"rft grade gave the reward {summary['reward']}, not 7/8")


def _check_missing_extras(environment: FreshEnvironment, folder: Path) -> None:
    """Run commands that need an extra; each must print the line that installs the missing packages."""
    for words, line in (
        (["train", *RUN], "rft train needs ray, vllm, torch, peft, trl, tensorboard; run: pip install 'rft[cpu]'"),
        (["sample", "--model", "embedded:tiny", "hello"], "rft sample needs vllm, torch; run: pip install 'rft[cpu"),
        (["grade", "data=tasks.parquet", RUN[2]], "a Parquet file needs datasets; run: pip install 'rft[data]'"),
        (["audit", "data=tasks.jsonl", "graders.g.use=reasoning_gym"], "run: pip install 'rft[reasoning-gym]'"),
    ):
        _expect(environment, folder, words, code=2, text=line)


def _expect(
    environment: FreshEnvironment, folder: Path, words: Sequence[str], *, code: int, text: str, program: str = "rft"
) -> None:
    """Run a command, which must end with an exit code and print a text.

    Raises:
        WheelError: The exit code or the text differs.
    """
    done = environment.run(program, *words, folder=folder)
    if done.returncode != code or text not in done.stdout + done.stderr:
        raise WheelError(
            f"{program} {' '.join(words)}: expected exit code {code} and {text!r}; it ended with {done.returncode} and "
            f"printed:\n{done.stdout}{done.stderr}"
        )


if __name__ == "__main__":
    try:
        main()
    except WheelError as error:
        sys.exit(f"rft: {error}")
