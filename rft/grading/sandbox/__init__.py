"""Runs untrusted programs: Python graders of other systems, and code of a model.

    from rft.grading.sandbox import Sandbox

    Sandbox().run("print(input())", "4").stdout

`docs/sandbox.md` lists what each rung of the ladder stops.
"""

from rft.grading.sandbox.judge_asserts import Assertions, judge_asserts
from rft.grading.sandbox.judge_cases import CaseResult, call_function, judge_function, judge_program
from rft.grading.sandbox.limits import Limits, SandboxError, SandboxResult
from rft.grading.sandbox.probe import RungReport, probe_rungs
from rft.grading.sandbox.run import Sandbox

__all__ = [
    "Assertions",
    "CaseResult",
    "Limits",
    "RungReport",
    "Sandbox",
    "SandboxError",
    "SandboxResult",
    "call_function",
    "judge_asserts",
    "judge_function",
    "judge_program",
    "probe_rungs",
]
