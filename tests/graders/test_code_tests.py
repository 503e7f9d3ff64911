"""Unit tests on model-written code: right code earns its marks, and none of the known cheats earns anything."""

import json
import os
import socket

import pytest

from graders.code_tests import CodeTests
from rft.grading import Status, Task, load_grader
from rft.grading.sandbox import Sandbox, SandboxError

CASES = {
    "entry_point": "add",
    "cases": [{"args": [17, 25], "expected": 42}, {"args": [-3, 1], "expected": -2}, {"args": [9, 9], "expected": 18}],
}
PROGRAM_CASES = [{"stdin": "17 25\n", "stdout": "42\n"}, {"stdin": "-3 1\n", "stdout": "-2\n"}]
RIGHT = "def add(a, b):\n    return a + b"
RIGHT_PROGRAM = "a, b = map(int, input().split())\nprint(a + b)"


def task(tests):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item={"tests": tests}, split="train")


def grade(code, tests=CASES, **options):
    options = {"seconds": 2.0, "memory_mb": 512, "allow_unsafe": True, **options}
    return CodeTests(**options).grade(f"Here it is:\n```python\n{code}\n```\n", task(tests))


@pytest.mark.parametrize(("code", "tests"), [(RIGHT, CASES), (RIGHT_PROGRAM, PROGRAM_CASES)])
def test_right_code_passes(code, tests):
    score = grade(code, tests)
    assert (score.value, score.status, score.answer) == (1.0, Status.OK, code)


def test_a_share_of_the_cases_or_all_of_them():
    half = "def add(a, b):\n    return a + b if a > 0 else 0"
    assert grade(half).value == pytest.approx(2 / 3)
    assert grade(half).reason == "2 of 3 cases; case 1: the value differs from the expected one"
    assert grade(half, score="all").value == 0.0 and grade(RIGHT, score="all").value == 1.0
    assert grade("a, b = map(int, input().split())\nprint(abs(a + b))", PROGRAM_CASES).value == 0.5


@pytest.mark.parametrize("completion", ["", "<think>def add", "<think>x</think>\n```python\n```"])
def test_no_code_is_no_answer(completion):
    score = CodeTests().grade(completion, task(CASES))
    assert (score.value, score.status) == (0.0, Status.NO_ANSWER)


def test_prose_fails_its_cases():
    score = CodeTests(allow_unsafe=True).grade("I cannot do that.", task(CASES))
    assert (score.value, score.status) == (0.0, Status.OK)


CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "exit when called": "import sys\ndef add(a, b): sys.exit(0)",
    "exit at once when called": "import os\ndef add(a, b): os._exit(0)",
    "exit by a signal": "import os\ndef add(a, b): os.kill(os.getpid(), 15)",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError",
    "excepthook": "import sys, os\nsys.excepthook = lambda *_: os._exit(0)\nraise ValueError",
    "marker": "print('OK'); print('3 passed'); print('SCORE 1.0'); import os; os._exit(0)",
    "junit": "open('report.xml', 'w').write('<testsuite tests=\"3\" failures=\"0\"/>'); import os; os._exit(0)",
    "equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __repr__(self): return "42"
    __str__ = __repr__
def add(a, b): return Equal(0)""",
    "equal to everything, as a float": """
class Equal(float):
    def __eq__(self, other): return True
    __hash__ = None
def add(a, b): return Equal("nan")""",
    "equal to everything, in a list": """
class Equal(list):
    def __eq__(self, other): return True
def add(a, b): return Equal()""",
    "patched print": "import builtins\nbuiltins.print = lambda *_, **__: None\ndef add(a, b): return True",
    "patched json": """
import json, json.encoder
class Any(json.JSONEncoder):
    def encode(self, value): return "[0, true, true]"
json.dumps = lambda *_, **__: "true"
json.JSONEncoder.encode = Any.encode
json.encoder.c_make_encoder = None
def add(a, b): return object()""",
    "patched builtins": """
import builtins
builtins.isinstance = lambda *_: True
builtins.len = lambda *_: 3
builtins.type = lambda *_: int
def add(a, b): return None""",
    "caller's frames": """
import sys
def add(a, b):
    frame = sys._getframe(1)
    while frame:
        for names in (frame.f_locals, frame.f_globals):
            for name in ("expected", "cases", "tests", "outputs", "answer"):
                if isinstance(names.get(name), (list, int, dict)):
                    found = names[name]
                    for each in found if isinstance(found, list) else [found]:
                        if isinstance(each, dict) and "expected" in each: return each["expected"]
                        if isinstance(each, int): return each
        frame = frame.f_back""",
    "garbage collector": """
import gc
def add(a, b):
    for each in gc.get_objects():
        if isinstance(each, dict) and isinstance(each.get("expected"), int): return each["expected"]
        if isinstance(each, tuple) and len(each) == 2 and each[0] == [a, b]: return each[1]""",
    "the harness's own channel": """
import sys
def add(a, b):
    frame = sys._getframe(1)
    for index in range(3): frame.f_locals["say"]([index, True, True])
    import os; os._exit(0)""",
    "patched test runner": """
try:
    import _pytest.python; _pytest.python.Function.runtest = lambda self: None
except ImportError: pass
open("conftest.py", "w").write("def pytest_collection_modifyitems(items): items.clear()")
open("sitecustomize.py", "w").write("import os; os._exit(0)")
open("json.py", "w").write("dumps = lambda *_: 'true'")
def add(a, b): import json; return json.dumps(1) == "true" """,
    "own memory": "open('/proc/self/mem', 'r+b'); import os; os._exit(0)",
    "forks": "import os\nfor _ in range(200):\n    os.fork()\ndef add(a, b): return 0",
    "memory": "def add(a, b): return len('x' * (8 << 30)) * 0",
    "for ever": "while True: pass",
    "for ever, deaf": "import signal\nfor n in (2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    "output": "def add(a, b):\n    while True: print('42' * 1000)",
    "deep": "def add(a, b):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "crash": "import ctypes\ndef add(a, b): ctypes.string_at(0)",
    "a thread that answers later": """
import threading, os
def add(a, b):
    threading.Thread(target=lambda: os.write(1, b"42\\n"), daemon=True).start()""",
    "string of the number": "def add(a, b): return str(a + b)",
    "float of the number": "def add(a, b): return float(a + b)",
    "always true": "def add(a, b): return True",
    "every number": "def add(a, b): return list(range(100))",
}
NEED_WALLS = {"forks"}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_earn_nothing(name):
    if name in NEED_WALLS and Sandbox(allow_unsafe=True).rung == 0:
        pytest.skip("nothing but limits works here")
    score = grade(CHEATS[name], seconds=1.0)
    assert (score.value, score.status) == (0.0, Status.OK), score.reason


PROGRAM_CHEATS = {
    "exit": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "marker": "print('OK\\n2 passed')",
    "everything": "for n in range(-50, 50): print(n)",
    "right but crashed": f"{RIGHT_PROGRAM}\nraise ValueError",
    "flood": "while True: print(42)",
}


@pytest.mark.parametrize("name", PROGRAM_CHEATS)
def test_cheats_of_programs_earn_nothing(name):
    assert grade(PROGRAM_CHEATS[name], PROGRAM_CASES, seconds=1.0).value == 0.0


@pytest.fixture
def walls():
    if Sandbox(allow_unsafe=True).rung == 0:
        pytest.skip("nothing but limits works here")


def test_expected_values_in_a_file_are_out_of_reach(walls, tmp_path):
    file = tmp_path / "tests.json"
    file.write_text(json.dumps(CASES))
    os.chmod(file, 0o666)
    code = f"import json\ndef add(a, b):\n    cases = json.load(open({str(file)!r}))['cases']\n"
    code += "    return next(case['expected'] for case in cases if case['args'] == [a, b])"
    assert grade(code).value == 0.0


def test_expected_values_from_a_server_are_out_of_reach(walls):
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = "import socket\ndef add(a, b):\n"
        code += f"    socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 0.5)\n    return a + b"
        assert grade(code).value == 0.0


def test_the_grader_cannot_be_signalled(walls):
    code = f"import os\ndef add(a, b):\n    os.kill({os.getpid()}, 15)\n    return a + b"
    assert grade(code).value == 0.0


HARD_CODED = "def add(a, b):\n    return {(17, 25): 42, (-3, 1): -2, (9, 9): 18}.get((a, b))"
WITH_REFERENCE = {
    **CASES,
    "reference": RIGHT,
    "generate": "import random\ndef generate(seed):\n    return random.Random(seed).choices(range(1000), k=2)",
}


def test_random_inputs_find_answers_that_were_written_down():
    assert grade(HARD_CODED).value == 1.0  # nothing else can tell
    assert grade(HARD_CODED, WITH_REFERENCE, random_cases=6, score="all").value == 0.0
    assert grade(HARD_CODED, WITH_REFERENCE, random_cases=6).value == pytest.approx(3 / 9)
    assert grade(RIGHT, WITH_REFERENCE, random_cases=6).value == 1.0


def test_hidden_cases_find_answers_that_were_written_down():
    hidden = {**CASES, "cases": [*CASES["cases"], {"args": [1, 1], "expected": 2}]}
    assert grade(HARD_CODED, hidden, score="all").value == 0.0


def test_a_broken_reference_is_the_tasks_fault():
    with pytest.raises(ValueError, match="the task's reference 'add' failed: NameError"):
        grade(RIGHT, {**WITH_REFERENCE, "reference": "def add(a, b): return c"}, random_cases=1)


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        ({}, "lacks entry_point and cases"),
        ({"entry_point": "f", "cases": []}, "lacks cases"),
        ({"entry_point": "f", "cases": [{"args": []}]}, r"the cases \[0\]"),
        ([], "no list of cases"),
        (7, "no list of cases"),
        ("x", "has no assertion and no test"),
        ("eJx", "has no assertion and no test"),
        ("1 +", "neither JSON nor Python"),
        ({"inputs": ["1"], "outputs": []}, "must be lists of equal length"),
        ({"inputs": ["1"], "outputs": [" "]}, "no case expects an output"),
        ([{"input": "1", "output": "1", "testtype": "functional"}], "neither 'metadata' nor 'entry_point'"),
        ("def check(candidate): assert candidate(1)", "requires the row's 'entry_point'"),
        ("def test_f(tmp_path): assert f(1)", "a fixture tmp_path cannot be handed to the tests"),
        (["assert add(lambda: 1, 2)"], "a function cannot be handed to the program"),
        ([{"stdin": ""}], r"needs stdin and stdout; the cases \[0\]"),
        ([{"stdin": "", "stdout": "\n"}], "does nothing would pass"),
        ({"entry_point": "f", "cases": [{"args": [], "expected": None}]}, "does nothing would pass"),
        ({**CASES, "reference": RIGHT}, "also requires 'generate'"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(tests, problem):
    with pytest.raises(ValueError, match=problem):
        grade(RIGHT, tests)


def test_a_task_without_cases_is_skipped():
    assert CodeTests().grade("x", task(None)) is None


def test_without_a_sandbox_grading_fails(monkeypatch):
    def none_works(*_, **__):
        raise SandboxError("no program can be run safely here")

    monkeypatch.setattr("graders.code_tests._sandbox", none_works)
    with pytest.raises(SandboxError):
        grade(RIGHT)


@pytest.mark.parametrize("options", [{"seconds": 0}, {"memory_mb": 0}, {"random_cases": -1}, {"tolerance": 2}])
def test_options_are_checked(options):
    with pytest.raises(ValueError):
        CodeTests(**options)


def test_it_has_a_name():
    assert load_grader("correct", {"use": "code_tests", "score": "all"}).takes == ("completion", "task")
