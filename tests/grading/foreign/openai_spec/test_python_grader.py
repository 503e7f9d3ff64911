"""Python graders, really run in the sandbox."""

import asyncio

import pytest

from rft.grading.foreign.openai_spec import Services, load_openai, run
from rft.grading.foreign.openai_spec.python_grader import WALL_S
from rft.grading.sandbox import SandboxError, SandboxResult


def ask(source, *, services=None):
    item = {"a": "4", "deep": {"x": [1, None]}}
    grader = {"type": "python", "source": source}
    return run({"grader": grader, "item": item, "model_sample": '{"v": "\u00e9"}'}, services=services)


def flags(response):
    return [name for name, is_set in response["metadata"]["errors"].items() if is_set is True]


@pytest.mark.parametrize(
    ("body", "reward"),
    [
        ("return 0.5", 0.5),
        ("return -3", -3.0),
        ("return True", 1.0),
        ("print(7)\n    return 1", 1.0),
        ("return float(sample['output_json'] == {'v': '\u00e9'} and item['deep'] == {'x': [1, None]})", 1.0),
        (
            "return float(sorted(sample) == ['choices', 'output_audio', 'output_json', 'output_text', 'output_tools'])",
            1.0,
        ),
        ("from rapidfuzz import fuzz\n    return fuzz.ratio('a', item['a'] and 'a') / 100", 1.0),
    ],
)
def test_rewards(body, reward):
    response = ask(f"def grade(sample, item):\n    {body}\n")
    assert (response["reward"], flags(response)) == (reward, [])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("return 1 / 0", 'File "grader.py", line 2, in grade\n    return 1 / 0\n'),
        ("return sample['nothing']", "KeyError: 'nothing'"),
        ("return '1.0'", "grade returned '1.0', which is not a number"),
        ("return None", "grade returned None"),
        ("return [1.0]", "TypeError"),
        ("return float('nan')", "grade returned nan, which is not a finite number"),
        ("return float('inf')", "grade returned inf"),
        ("raise SystemExit(0)", "SystemExit"),
        ("return 'x' * (4 << 30)", "MemoryError"),
        ("import socket\n    socket.create_connection(('127.0.0.1', 9), 1)\n    return 1", "Error"),
    ],
)
def test_what_raises_is_no_reward(body, detail):
    response = ask(f"def grade(sample, item):\n    {body}\n")
    assert (response["reward"], flags(response)) == (None, ["python_grader_runtime_error"])
    assert detail in response["metadata"]["errors"]["python_grader_runtime_error_details"]


@pytest.mark.parametrize(
    "body",
    [
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "print('{\"value\": 1.0}', flush=True); import os; os._exit(0)",
        "import os; os.write(3, b'{\"value\": 1.0}'); os._exit(0)",
    ],
)
def test_a_program_that_ends_without_a_result_is_no_reward(body):
    response = ask(f"def grade(sample, item):\n    {body}\n")
    assert (response["reward"], flags(response)) == (None, ["python_grader_server_error"])
    assert "without a result" in response["metadata"]["errors"]["python_grader_server_error_type"]


class _Sandbox:
    """Stands for the sandbox where that cannot be made to fail, or only in minutes."""

    def __init__(self, outcome):
        self.outcome = outcome

    async def arun(self, source, stdin="", *, limits):
        self.limits = limits
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def with_sandbox(outcome):
    services = Services()
    services.sandbox = _Sandbox(outcome)
    return services


def test_a_deadline_that_is_missed():
    result = SandboxResult(
        stdout="", stderr_tail="", exit_code=-9, timed_out=True, truncated=False, rung=1, seconds=WALL_S
    )
    services = with_sandbox(result)
    response = ask("def grade(sample, item): return 1", services=services)
    assert (response["reward"], flags(response)) == (None, ["unresponsive_reward_error"])
    limits = services.sandbox.limits
    assert (limits.wall_s, limits.memory_mb, limits.file_mb) == (120.0, 2048, 1024)


def test_no_sandbox():
    response = ask("def grade(sample, item): return 1", services=with_sandbox(SandboxError("no rung works")))
    assert (response["reward"], flags(response)) == (None, ["python_grader_server_error"])
    assert response["metadata"]["errors"]["python_grader_server_error_type"] == "no rung works"


def test_many_at_a_time():
    from rft.grading.foreign.openai_spec.evaluate import evaluate
    from rft.grading.foreign.openai_spec.outcome import Case

    grader = load_openai({"type": "python", "source": "def grade(sample, item): return item['i']"})

    async def all_of_them():
        cases = [Case(sample={}, item={"i": index}, trace_id="t") for index in range(6)]
        return await asyncio.gather(*(evaluate(grader.spec, case, grader.services) for case in cases))

    assert [outcome.value for outcome in asyncio.run(all_of_them())] == [float(index) for index in range(6)]
