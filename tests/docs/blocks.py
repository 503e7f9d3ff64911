"""The code blocks and commands of README.md and docs/, as CommonMark reads them."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("rft", "make", "python", "ray", "sbatch", "kubectl", "curl")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Example:
        Block(file="README.md", line=44, language="python", text="def correct(completion, task): ...")
    """

    file: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command in a block without a language, or in the text.

    Example:
        Command(file="README.md", words=("rft", "train", "experiment=quickstart"), output=())
    """

    file: str
    words: tuple[str, ...]
    output: tuple[str, ...]
    """The lines below it, where it stands behind a `$`."""

    def __str__(self) -> str:
        return f"{self.file}: {shlex.join(self.words)}"


@functools.cache
def _tokens_of(file: Path) -> Sequence[Token]:
    return MarkdownIt().parse(file.read_text(encoding="utf-8"))


def read_blocks(files: Sequence[Path] = FILES) -> list[Block]:
    """Every fenced block, in order."""
    return [
        Block(str(file.relative_to(ROOT)), token.map[0] + 1, token.info.strip(), token.content)
        for file in files
        for token in _tokens_of(file)
        if token.type == "fence" and token.map
    ]


def read_commands(files: Sequence[Path] = FILES) -> list[Command]:
    """Every command, each once a file: those of blocks without a language, and `rft ...` in the text."""
    found = [command for block in read_blocks(files) if not block.language for command in _commands_of(block)]
    for file in files:
        for token in _tokens_of(file):
            for child in token.children or ():
                if child.type == "code_inline" and re.match(r"rft [a-z-]+ \S", child.content):
                    found.append(Command(str(file.relative_to(ROOT)), _words(child.content), ()))
    return list(dict.fromkeys(found))


def _commands_of(block: Block) -> Iterator[Command]:
    lines = block.text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines):
        typed = line.removeprefix("$ ")
        if typed.split(" ")[0] in PROGRAMS:
            yield Command(block.file, _words(typed), tuple(lines[number + 1 :]) if typed != line else ())


def _words(typed: str) -> tuple[str, ...]:
    return tuple(shlex.split(typed, comments=True))
