"""python: a program's `grade(sample, item)`, in the sandbox with the documented limits.

Two minutes, 2 GB of memory, 1 GB of files, no network. The program can import the installed packages; `image_tag`,
which names OpenAI's set of packages, has no effect. The program's output goes to stderr, so its result, one line of
JSON, is alone on stdout.

If `grade` raises, or returns a value that is not a finite number, OpenAI gives a reward of 0. rft gives no reward,
because the program failed, not the model.
"""

from __future__ import annotations

import json
import math
import secrets
from typing import Any

from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.spec import Python
from rft.types import Status

WALL_S = 120.0
"""Deadline of a call in seconds."""
MEMORY_MB = 2048
FILE_MB = 1024

PROGRAM = """
import json, linecache, os, sys, traceback

request = json.load(sys.stdin)
reply = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def run(source, sample, item):
    linecache.cache["grader.py"] = (len(source), None, source.splitlines(True), "grader.py")  # for tracebacks
    module = {"__name__": "grader"}
    try:
        exec(compile(source, "grader.py", "exec"), module)
        value = module["grade"](sample, item)
        if isinstance(value, (str, bytes)) or value is None:
            raise TypeError(f"grade returned {value!r:.80}, which is not a number")
        return {"value": float(value)}
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        shown = "".join(traceback.format_list(frames) + traceback.format_exception_only(error))
        return {"error": shown[-4000:]}


nonce = request.pop("nonce")
reply.write(json.dumps(run(**request) | {"nonce": nonce}))
reply.flush()
"""
"""The program in the sandbox. The nonce separates its result from text that the graded code prints."""


async def grade(spec: Python, case: Case, services: Services) -> Outcome:
    """Run the program.

    Raises:
        Fault: The program or the sandbox failed.
    """
    from rft.grading.sandbox import Limits, SandboxError

    nonce = secrets.token_hex(16)
    request = {"source": spec.source, "sample": case.sample, "item": dict(case.item), "nonce": nonce}
    limits = Limits(wall_s=WALL_S, cpu_s=int(WALL_S), memory_mb=MEMORY_MB, file_mb=FILE_MB)
    try:
        result = await services.sandbox.arun(PROGRAM, json.dumps(request), limits=limits)
    except SandboxError as error:
        raise Fault(Flag.PYTHON_GRADER_SERVER_ERROR, str(error)) from error
    if result.timed_out:
        raise Fault(Flag.UNRESPONSIVE_REWARD_ERROR, f"grade took longer than {WALL_S:g} s", Status.TIMEOUT)
    reply = _reply(result.stdout, nonce)
    if reply is None:
        detail = f"the program ended without a result, with exit code {result.exit_code}: {result.stderr_tail[-500:]}"
        raise Fault(Flag.PYTHON_GRADER_SERVER_ERROR, detail)
    if "error" in reply:
        raise Fault(Flag.PYTHON_GRADER_RUNTIME_ERROR, str(reply["error"]))
    value = reply.get("value")
    if not isinstance(value, float) or not math.isfinite(value):
        raise Fault(Flag.PYTHON_GRADER_RUNTIME_ERROR, f"grade returned {value!r}, which is not a finite number")
    return Outcome(value=value)


def _reply(stdout: str, nonce: str) -> dict[str, Any] | None:
    try:
        reply = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) and reply.get("nonce") == nonce else None
