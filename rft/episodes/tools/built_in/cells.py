"""The built-in tool `python`: runs the model's code in the sandbox (docs/sandbox.md).

A cell is one call. It prints, and its last expression is shown, as in a notebook. With `keep_state`, the names of
earlier cells are there, because every call runs the earlier cells again, without their output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from rft.episodes.tools.built_in.base import Call, Described, SandboxedTool
from rft.episodes.tools.tool import ToolError
from rft.grading.sandbox import Limits, Sandbox, SandboxResult
from rft.types import Task

MAX_CODE_CHARACTERS = 100_000
"""Longest cell."""

_HARNESS = r"""
def harness():
    import ast, io, json, linecache, sys, traceback
    cells = json.loads(sys.stdin.read())
    sys.stdin = io.StringIO()
    names = {"__name__": "__main__"}
    def run(code, file):
        linecache.cache[file] = (len(code), None, code.splitlines(True), file)
        tree = ast.parse(code, file)
        shown = [tree.body.pop()] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
        exec(compile(tree, file, "exec", dont_inherit=True), names)
        # Mode "single" prints the value of an expression, as at Python's prompt.
        exec(compile(ast.Interactive(shown), file, "single", dont_inherit=True), names)
    out, err = sys.stdout, sys.stderr
    for number, code in enumerate(cells, 1):
        is_last = number == len(cells)
        sys.stdout, sys.stderr = (out, out) if is_last else (io.StringIO(), io.StringIO())
        try:
            run(code, f"<cell {number}>")
        except SystemExit:
            pass
        except BaseException as error:
            if is_last:
                # Without the two frames of this harness, and without the parser's frame of a syntax error.
                own = None if isinstance(error, SyntaxError) else error.__traceback__.tb_next.tb_next
                traceback.print_exception(type(error), error, own, file=out)
    out.flush()
harness()
"""


class PythonTool(SandboxedTool):
    """The options of `python`."""

    keep_state: bool = False
    """Whether a call sees the names of earlier ones; every call then runs the earlier ones again."""

    def described(self, name: str) -> Described:
        """Return one tool with the name of the entry."""
        kept = "Names of earlier calls are there." if self.keep_state else "Every call starts anew."
        text = f"Run Python code, and return what it prints and the value of its last expression. {kept}"
        return {name: (text, {"code": "The code."})}

    def calls(self, name: str, task: Task) -> Mapping[str, Call]:
        """Return its call. Nothing of the task enters the sandbox."""
        cells = PythonCells(self.sandbox, self.limits, keeps_state=self.keep_state)
        return {name: lambda arguments: cells.run(arguments["code"])}


@dataclass
class PythonCells:
    """The cells of one episode.

    Args:
        sandbox: Runs them.
        limits: Limits of one call, with the earlier cells that it runs again.
        keeps_state: Whether a cell sees the names of earlier ones.
    """

    sandbox: Sandbox
    limits: Limits
    keeps_state: bool = False
    _cells: list[str] = field(default_factory=list, init=False)

    async def run(self, code: str) -> str:
        """Run a cell, and return what it printed, with the traceback of an exception.

        Raises:
            SandboxError: No process could be started.
            ToolError: The cell is too long, or it reached a limit; later cells do not see it.
        """
        if len(code) > MAX_CODE_CHARACTERS:
            raise ToolError(f"the code has {len(code)} characters; at most {MAX_CODE_CHARACTERS} are allowed")
        cells = [*self._cells, code] if self.keeps_state else [code]
        result = await self.sandbox.arun(_HARNESS, json.dumps(cells), limits=self.limits)
        if (problem := _limit_of(result, self.limits)) is not None:
            kept = "; the names of this cell are not kept" if self.keeps_state else ""
            raise ToolError(f"{problem}{kept}")
        self._cells = cells
        return result.stdout


def _limit_of(result: SandboxResult, limits: Limits) -> str | None:
    if result.timed_out:
        return f"timed out after {limits.wall_s:g} s"
    if result.truncated:
        return f"stopped: it printed more than {limits.output_bytes} bytes"
    if result.exit_code != 0:
        return f"the process ended with exit code {result.exit_code}"
    return None
