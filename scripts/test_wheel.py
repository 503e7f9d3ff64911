"""Build the wheel, install its core into a fresh environment, and use it there. Exits with 1 at the first fault.

    python scripts/test_wheel.py

What `pip install rft` gives must grade, audit, check and serve without torch, Ray, vLLM, `datasets` and pyarrow.
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
"""Packages, as they are imported, that the core must not bring."""
SHIPPED = {"rft": "rft", "graders": "graders", "hydra_plugins": "hydra_plugins", "conf": "rft/conf"}
"""Folders of the checkout whose files the wheel holds, and where."""
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
    """The wheel, or what it installs, is not as it should be."""


def main() -> None:
    """Build, install, use."""
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
        _check_what_needs_an_extra(environment, work)
    print("the core works, and lacks " + ", ".join(ABSENT))


def _check_content(wheel: Path) -> None:
    """Compare the wheel with the checkout: Python files, presets, templates, and the embedded model and tasks."""
    expected = {
        f"{target}/{file.relative_to(ROOT / source)}"
        for source, target in SHIPPED.items()
        for file in (ROOT / source).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    if names != expected:
        raise WheelError(
            f"{wheel.name} lacks {sorted(expected - names)}, and holds too much: {sorted(names - expected)}"
        )


def _check_packages(environment: FreshEnvironment, folder: Path) -> None:
    present = environment.run("python", "-c", FIND_ABSENT, folder=folder).stdout.split()
    if present:
        raise WheelError(f"the core brings {', '.join(present)}")


def _check_commands(environment: FreshEnvironment, folder: Path) -> None:
    """Run what the core can do."""
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


def _check_what_needs_an_extra(environment: FreshEnvironment, folder: Path) -> None:
    """Run what the core cannot do: each says which line installs what is missing."""
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
        WheelError: It does not.
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
