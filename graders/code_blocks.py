"""Finds the program in a completion: the fenced block that defines the tested names, not simply the last block."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LINES_AFTER = 50
"""Maximum number of lines of other text after the code of a prompt."""

PYTHON = ("", "python", "py", "python3", "python2", "pycon")
"""Languages in the fence of a Python program."""

_FENCE = re.compile(r"^(?P<indent>[ \t]*(?:(?:[-*+>]|\d+[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_BEGINS = re.compile(r"(from\s+\S+\s+import|import|def|async def|class|@)\s*\w")
_READS_STDIN = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\(\s*0\b|\bfileinput\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    """The first word after the fence, in lower case."""
    code: str
    """Its lines, without the indentation of the fence."""


def code_blocks(text: str, languages: Sequence[str] = PYTHON) -> list[Block]:
    """Return the fenced blocks in one of some languages, in order.

    Fences follow CommonMark: backticks or tildes, perhaps indented as in a list item. A docstring in a block of Python
    may contain a fence, so the first closing fence after a complete program counts. An unclosed block counts if it is a
    program, because sampling may have stopped at the fence.

    Args:
        text: Markdown.
        languages: The languages, in lower case.
    """
    lines = text.split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        language = _language(opening["info"])
        ends = [number for number in range(at + 1, len(lines)) if _closes(lines[number], opening)]
        codes = [_dedented(lines[at + 1 : end], len(opening["indent"])) for end in [*ends, len(lines)]]
        complete = [number for number, code in enumerate(codes) if language in PYTHON and is_program(code)]
        chosen = complete[0] if complete else 0
        is_closed = chosen < len(ends)
        if language in languages and (is_closed or complete):
            blocks.append(Block(language, codes[chosen]))
        at = ends[chosen] + 1 if is_closed else at + 1
    return blocks


def solution(text: str, names: Sequence[str] = ()) -> str:
    """Return the program in an answer.

    Args:
        text: The final answer.
        names: Functions or classes that the program must define. The last block that defines most of them is the
            program. Without names, the program is the last block that reads stdin, otherwise the last valid program.

    Returns:
        The program; without a block, the content of `<answer>`, otherwise the whole text.
    """
    blocks = [block.code for block in code_blocks(text)]
    if not blocks:
        marked = _ANSWER.findall(text)
        return marked[-1].strip("\n") if marked else text
    if names:
        ranks = [sum(defines(code, name) for name in names) for code in blocks]
    else:
        ranks = [2 if _READS_STDIN.search(code) and is_program(code) else int(is_program(code)) for code in blocks]
    best = max(ranks)
    return next(code for code, rank in zip(reversed(blocks), reversed(ranks), strict=True) if rank == best)


@functools.lru_cache(maxsize=1024)
def stub_of(text: str, name: str) -> str:
    """Return the program in a text that ends in a function without its body; empty if there is none.

    Args:
        text: A prompt: code, or prose with the code in a fenced block or as it is. Of prose, the longest program counts
            that begins with the first import or definition.
        name: The function.
    """
    blocks = [block.code for block in code_blocks(text)]
    if blocks or is_program(text):
        return next((code for code in (blocks or [text]) if _is_stub(code, name)), "")
    if not defines(text, name):
        return ""
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if _BEGINS.match(line)), len(lines))
    ends = range(len(lines), max(start, len(lines) - MAX_LINES_AFTER), -1)
    longest = next(filter(is_program, ("\n".join(lines[start:end]) for end in ends)), "")
    return longest if _is_stub(longest, name) else ""


def _is_stub(code: str, name: str) -> bool:
    """Whether a program ends in a function of this name that only has a docstring, or nothing, as its body."""
    match _statements(code):
        case [*_, ast.FunctionDef(name=last, body=body)] if last == name:
            return all(
                isinstance(statement, ast.Pass)
                or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
                for statement in body
            )
    return False


def last_code_block(text: str, languages: Sequence[str]) -> str:
    """Return the last fenced block in one of some languages, otherwise the text itself."""
    blocks = code_blocks(text, languages)
    return blocks[-1].code if blocks else text


def is_program(code: str) -> bool:
    """Whether a text is a Python program with at least one statement."""
    return bool(_statements(code))


def defines(code: str, name: str) -> bool:
    """Whether a program defines a function, a class or a variable of this name at its top level, or appears to."""
    statements = _statements(code)
    if statements is None:  # broken, or the indented body of a function
        return re.search(rf"^\s*(?:(?:async\s+)?def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) is not None
    return any(name in _names(statement) for statement in statements)


def _statements(code: str) -> list[ast.stmt] | None:
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {alias.asname or alias.name.partition(".")[0] for alias in names}
        case ast.If(body=body, orelse=orelse) | ast.Try(body=body, orelse=orelse):
            return {name for inner in (*body, *orelse) for name in _names(inner)}
    return set()


def _language(info: str) -> str:
    words = info.strip().strip("{}").split()
    return words[0].lstrip(".").rstrip(",").lower() if words else ""


def _closes(line: str, opening: re.Match[str]) -> bool:
    """Whether a line closes a block: a fence of the same kind, at least as long, and not indented like its content."""
    closing = re.fullmatch(r"([ \t]*)(`{3,}|~{3,})\s*", line)
    return (
        closing is not None
        and closing[2].startswith(opening["fence"])
        and len(closing[1]) <= len(opening["indent"]) + 3
    )


def _dedented(lines: Sequence[str], width: int) -> str:
    return "\n".join(line[min(width, len(line) - len(line.lstrip())) :] for line in lines)
