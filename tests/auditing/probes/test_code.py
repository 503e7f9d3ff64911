"""Programs that cheat, and tests that are too weak."""

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import code
from tests.auditing.conftest import make_tasks

PROGRAM = (
    "def biggest(xs):\n    best = xs[0]\n    for x in xs:\n        if x > best:\n            best = x\n    return best"
)
CASES = {
    "entry_point": "biggest",
    "cases": [{"args": [[1, 3, 2]], "expected": 3}, {"args": [[-1, -3]], "expected": -1}],
}


def test_mutants_change_one_thing():
    finding = dict(code.mutated_programs("def f(a):\n    return a + 1 if a < 2 else 0"))
    changes = ("returns None", "another operator", "another comparison", "another number")
    assert set(finding) == {f"{change} in line 2" for change in changes}
    assert finding["another operator in line 2"] == "def f(a):\n    return a - 1 if a < 2 else 0"
    assert finding["another comparison in line 2"] == "def f(a):\n    return a + 1 if a >= 2 else 0"


@pytest.mark.e2e  # real libraries or real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_grader_of_code(audit):
    tasks = make_tasks([{"prompt": "Write biggest.", "solution": PROGRAM, "tests": CASES}])
    cheats, mutants, impossible = audit(
        {"main": {"use": "code_tests", "seconds": 1.5}},
        code.code_cheats, code.mutants, code.impossible_tests, tasks=tasks, gold="solution",
    )  # fmt: skip
    assert (cheats.result, cheats.figures["cases"]) == (Result.PASSED, len(code.CHEATS))
    # xs[1] instead of xs[0] passes both cases: 3 is still found, and -1 comes in the loop.
    assert [one.case.note for one in mutants.examples] == ["another number in line 2"]
    assert impossible.result is Result.PASSED


@pytest.mark.e2e  # real libraries or real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_harness_that_trusts_exit_codes(audit):
    audit.file("""
import subprocess, sys
def trusting(completion, task):
    code = completion.removeprefix("```python").removesuffix("```")
    program = code + "\\n" + task.item["checks"]
    return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, timeout=20).returncode == 0
""")
    tasks = make_tasks([{"prompt": "?", "solution": PROGRAM, "checks": "assert biggest([1, 3, 2]) == 3"}])
    quick = {name: code.CHEATS[name] for name in ("exits with 0", "an object that equals everything", "takes memory")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "CHEATS", quick)
        finding = audit("trusting", code.code_cheats, tasks=tasks, gold="solution")
    assert finding.result is Result.FAILED
    assert [one.case.note for one in finding.examples] == ["exits with 0", "an object that equals everything"]
