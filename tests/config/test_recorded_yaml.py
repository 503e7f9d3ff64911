"""YAML of strangers: aliases that unfold without limit are refused before a value is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft.api.run import Run
from rft.config.adapter_settings import settings_of_run
from rft.config.recorded_yaml import MAX_BYTES, MAX_UNFOLDED, parse_yaml, refuse_large_yaml
from rft.config.resume import read_config_of
from rft.errors import UsageError
from rft.evidence.certificate.statement import read_config
from rft.evidence.measured import _config
from rft.evidence.viewer.token_pieces import find_tokenizer

BOMB = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
"""The "billion laughs": 9 ** 10 texts in 430 bytes."""
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30))
"""Merge keys, which a loader would write out while it builds the values."""
LONG = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 50)}]\n"
"""One long text, repeated."""


@pytest.mark.parametrize("content", [BOMB, MERGES, LONG])
def test_bombs_are_refused(content: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_yaml(content.encode(), where="config.yaml", what="run")
    [problem] = refused.value.problems
    assert problem.startswith(f"config.yaml repeats itself by aliases to more than {MAX_UNFOLDED:,} values")
    assert "Ask its sender for a file without aliases" in problem


READERS = (
    *(settings_of_run, read_config, _config, find_tokenizer),
    *(lambda run: read_config_of(run / "config.yaml"), lambda run: Run(run).config),
)


@pytest.mark.parametrize("read", READERS)
def test_every_reader_of_a_run_folder_refuses_a_bomb(tmp_path: Path, read: Any) -> None:
    (tmp_path / "config.yaml").write_text(BOMB)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="repeats itself by aliases"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: &a [*a]", "an alias leads to a value that contains it"),
        (b"a: " + b"[\n" * 1000, "maximum recursion depth"),
        (b"a: [1", "expected ',' or ']'"),
        (b"a: \xff", "can't decode byte 0xff"),
        (b"a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b" " * (MAX_BYTES + 1), "more than 1,048,576 bytes"),
    ],
)
def test_other_files_that_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_yaml(content, where="config.yaml", what="run")
    assert message in refused.value.problems[0] and "config.yaml" in refused.value.problems[0]


def test_ordinary_aliases_are_read(tmp_path: Path) -> None:
    content = b"a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\n"
    expected = {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3}}
    assert parse_yaml(content, where="config.yaml", what="run") == expected
    assert parse_yaml(b"", where="config.yaml", what="run") is None
    (tmp_path / "task.yaml").write_text("process: !function mine.process\n")
    refuse_large_yaml(tmp_path / "task.yaml", what="benchmark")  # tags of another program
    (tmp_path / "task.yaml").write_text(BOMB)
    with pytest.raises(UsageError, match="repeats itself"):
        refuse_large_yaml(tmp_path / "task.yaml", what="benchmark")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        refuse_large_yaml(tmp_path / "other.yaml", what="benchmark")
