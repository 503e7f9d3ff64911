"""How parts are run, with parts that need no library."""

import ast
import json
import zipfile
from pathlib import Path

import gpu_check
import pytest
from gpu import runner
from gpu.bench import Bench
from gpu.plans import PLANS, Part
from gpu.process import run_here
from gpu.report import Outcome, Result, summary
from gpu.runner import install_wheels, run_part, run_parts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAKE_PARTS = """
import os, threading
from gpu.report import NotRun

def passes(bench, notes, *, value):
    notes.note(value=value, dry=bench.dry)
    notes.check("is positive", value > 0)

def raises(bench, notes):
    notes.note(reached=1)
    raise ValueError("of this kind")

def lacks(bench, notes):
    raise NotRun("needs 2 GPUs")

def dies(bench, notes):
    print("the last words", flush=True)
    os._exit(3)

def hangs(bench, notes):
    threading.Event().wait()
"""
# The process of a part looks it up by name in the plans.
FAKE_PLANS = """
import gpu.plans
names = {"passes": {"value": 2}, "dies": {}, "hangs": {}}
parts = [
    gpu.plans.Part(name=name, target=f"fake_parts:{name}", deadline_s=300, question="?", options=options)
    for name, options in names.items()
]
gpu.plans.PLANS = {"fake": (tuple(parts), 900.0)}
"""


def fake_part(name: str, **options: object) -> Part:
    return Part(name=name, target=f"fake_parts:{name}", deadline_s=300, question="?", options=options)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the functions of fake parts, which this process and others can import."""
    (tmp_path / "fake_parts.py").write_text(FAKE_PARTS)
    (tmp_path / "sitecustomize.py").write_text(FAKE_PLANS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("part", "outcome", "reason", "figures"),
    [
        (fake_part("passes", value=2), Outcome.PASSED, "", {"value": 2, "dry": True}),
        (fake_part("passes", value=-1), Outcome.FAILED, "does not hold: is positive", {"value": -1, "dry": True}),
        (fake_part("raises"), Outcome.FAILED, "ValueError: of this kind", {"reached": 1}),
        (fake_part("lacks"), Outcome.NOT_RUN, "needs 2 GPUs", {}),
    ],
)
def test_the_result_of_a_part(
    fakes: Path, part: Part, outcome: Outcome, reason: str, figures: dict[str, object]
) -> None:
    result = run_here(part, Bench(fakes, dry=True))
    assert (result.outcome, result.reason, result.figures) == (outcome, reason, figures)
    assert json.loads(result.line())["outcome"] == outcome.value


def test_a_part_that_dies_does_not_stop_the_next(fakes: Path) -> None:
    parts = [fake_part("dies"), fake_part("passes", value=2)]
    died, passed = run_parts(parts, work=fakes / "work", limit_s=900, dry_run=True, search=[fakes])
    log = fakes / "work" / "dies.log"
    assert died.outcome is Outcome.FAILED
    assert died.reason == f"exit code 3 without a result: the last words; see {log}"
    assert (passed.outcome, passed.checks) == (Outcome.PASSED, {"is positive": True})


def test_a_part_that_hangs_is_killed(fakes: Path) -> None:
    result = run_part(fake_part("hangs"), work=fakes / "work", deadline_s=0.5, dry_run=True, search=[fakes])
    assert (result.outcome, result.reason[:17]) == (Outcome.TIMED_OUT, "no end within 0.5")


def test_parts_that_do_not_fit_into_the_time_are_not_run(tmp_path: Path) -> None:
    [result] = run_parts([fake_part("passes")], work=tmp_path, limit_s=0.0, dry_run=True)
    assert (result.outcome, result.reason) == (Outcome.NOT_RUN, "the 0 s of all parts were over")


def test_without_a_gpu_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.shutil, "which", lambda name: None)
    [result] = run_parts([fake_part("passes")], work=tmp_path, limit_s=60.0, dry_run=False)
    assert (result.outcome, result.reason) == (Outcome.NOT_RUN, "no NVIDIA GPU: nvidia-smi is missing")


def test_wheels_are_installed_without_a_network_or_dependencies(tmp_path: Path) -> None:
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: carried\nVersion: 1.0\nRequires-Dist: not-carried\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(tmp_path / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried.py", "ANSWER = 42\n")
        for name, text in info.items():
            wheel.writestr(f"carried-1.0.dist-info/{name}", text)
    install_wheels(tmp_path, tmp_path / "site")
    assert (tmp_path / "site" / "carried.py").read_text() == "ANSWER = 42\n"


def test_the_summary_counts_outcomes() -> None:
    results = [
        Result(part="read_back", outcome=Outcome.PASSED, seconds=12.34),
        Result(part="nccl", outcome=Outcome.FAILED, reason="does not hold: sum", seconds=3.0),
    ]
    assert summary(results) == (
        "read_back  passed       12.3 s\n"
        "nccl       failed        3.0 s  does not hold: sum\n"
        "1 passed, 1 failed, 0 timed_out, 0 not_run"
    )


def test_the_functions_of_all_parts_exist_and_take_their_options() -> None:
    """Read from the source: importing the parts takes seconds."""
    for parts, limit_s in PLANS.values():
        for part in parts:
            module, _, name = part.target.partition(":")
            tree = ast.parse((BENCHMARKS / f"{module.replace('.', '/')}.py").read_text())
            [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
            assert [argument.arg for argument in function.args.args] == ["bench", "notes"]
            assert set(part.options) <= {argument.arg for argument in function.args.kwonlyargs}
            assert part.deadline_s <= limit_s
    every = [part.name for parts, _ in PLANS.values() for part in parts]
    assert len(every) == len(set(every))


def test_the_plans_for_one_gpu_end_in_time() -> None:
    assert {name: limit_s for name, (_, limit_s) in PLANS.items() if name in ("learner", "engine")} == {
        "learner": 130,
        "engine": 540,
    }


def test_a_plan_is_listed_and_an_unknown_part_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["engine", "--list"]) == 0
    assert "seeds (50 s): Does a completion depend on its neighbours?" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu_check.main(["engine", "--only", "nothing"])
    assert "no part nothing; there are: engine_models, read_back" in capsys.readouterr().err
