"""Reading rows from files, from what rft ships, and from the hub (which is never reached here)."""

import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from rft.data import file_content, sources
from rft.data.files import Flaw, Row
from rft.data.sources import read_rows
from rft.errors import DataError


def problem_of(source: str) -> str:
    """The one problem that reading the source raises."""
    with pytest.raises(DataError) as caught:
        list(read_rows(source, key="data.train"))
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_lines_keep_their_columns_and_line_numbers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tasks{suffix}"
    path.write_bytes(
        b'\xef\xbb\xbf{"prompt": "a\xe2\x80\xa8b", "n": 7}\r\n\n  \n{"prompt": "c", "answer": {"x": null}}'
    )
    assert list(read_rows(str(path), key="data.train")) == [
        Row(f"{path}:1", {"prompt": "a\u2028b", "n": 7}),
        Row(f"{path}:4", {"prompt": "c", "answer": {"x": None}}),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt": 1 "b": 2}', "invalid JSON: Expecting ',' delimiter at column 14"),
        (b'{"prompt": "a', "invalid JSON: Unterminated string at column 12"),
        (b'{"prompt": "\xff"}', "not UTF-8: byte 0xff at column 13; save it as UTF-8"),
        (b'{"n": ' + b"1" * 5000 + b"}", "invalid JSON: Exceeds the limit"),
        (b"[" * 200_000, "invalid JSON: "),
    ],
    ids=["syntax", "open string", "encoding", "huge number", "too deep"],
)
def test_a_bad_line_is_a_flaw_and_reading_goes_on(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n' + line + b'\n{"prompt": "b"}\n')
    first, bad, last = read_rows(str(path), key="data.train")
    assert isinstance(bad, Flaw)
    assert bad.where == f"{path}:2"
    assert bad.problem.startswith(problem)
    assert [first, last] == [Row(f"{path}:1", {"prompt": "a"}), Row(f"{path}:3", {"prompt": "b"})]


def test_json_over_several_lines_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"prompt": "a"}, {"prompt": "b"}], indent=2))
    problem = problem_of(str(path))
    assert "put each task on its own line" in problem
    assert "jq -c '.[]' tasks.json > tasks.lines.jsonl" in problem


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text('prompt,answer\na,007\n"b\nc",NA\n\nd\ne,\n')
    assert list(read_rows(str(path), key="data.train")) == [
        Row(f"{path}:2", {"prompt": "a", "answer": "007"}),
        Row(f"{path}:3", {"prompt": "b\nc", "answer": "NA"}),
        Flaw(f"{path}:6", "cells: 1, columns in the first line: 2; quote texts with commas"),
        Row(f"{path}:7", {"prompt": "e", "answer": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a,b,a\n1,2,3\n", "several columns are named a; rename all but one"),
        (b'a,b\n"1"2,3\n', "expected after"),
        (b"a,b\n\xff,3\n", "can't decode byte 0xff"),
    ],
)
def test_broken_csv(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "tasks.csv"
    path.write_bytes(content)
    assert problem in problem_of(str(path))
    assert f"data.train={path}" in problem_of(str(path))


def test_packed_files_and_tabs(tmp_path: Path) -> None:
    lines, tabs = tmp_path / "tasks.jsonl.gz", tmp_path / "tasks.tsv"
    lines.write_bytes(gzip.compress(b'\xef\xbb\xbf{"prompt": "a"}\n\n{"prompt": 1 "b"}\n', mtime=0))
    assert list(read_rows(str(lines), key="data.train")) == [
        Row(f"{lines}:1", {"prompt": "a"}),
        Flaw(f"{lines}:3", "invalid JSON: Expecting ',' delimiter at column 14"),
    ]
    tabs.write_text('prompt\tanswer\na, b\t"c\td"\ne\n')
    rows = [
        Row(f"{tabs}:2", {"prompt": "a, b", "answer": "c\td"}),
        Flaw(f"{tabs}:3", "cells: 1, columns in the first line: 2; quote texts with tabs"),
    ]
    assert list(read_rows(str(tabs), key="data.train")) == rows
    packed = tmp_path / "packed.tsv.gz"
    packed.write_bytes(gzip.compress(tabs.read_bytes()))
    assert [row.where for row in read_rows(str(packed), key="data.train")] == [f"{packed}:2", f"{packed}:3"]


TEXT = '{"prompt": "a"}\n{"prompt": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.jsonl",
            TEXT.encode("utf-16"),
            "it is UTF-16, not UTF-8; convert it with: iconv -f UTF-16 -t UTF-8 a.jsonl",
        ),
        ("a.jsonl", TEXT.encode("utf-16-le"), "it is UTF-16LE, not UTF-8"),
        ("a.csv", "prompt,answer\na,b\n".encode("utf-16-be"), "it is UTF-16BE, not UTF-8"),
        ("a.jsonl", TEXT.encode("utf-32"), "it is UTF-32, not UTF-8"),
        ("a.csv", b"prompt;answer\na;b\n", "separated by semicolons, not by commas; save it with commas"),
        ("a.csv", b"prompt\tanswer\na\tb\n", "separated by tabs, not by commas; rename it to end in .tsv"),
        ("a.tsv", b"prompt,answer\na,b\n", "separated by commas, not by tabs; save it with tabs"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "it is compressed with gzip; add .gz to its name"),
        (
            "a.jsonl.gz",
            gzip.compress(TEXT.encode(), mtime=0)[:-12],
            "the gzip file is damaged (Compressed file ended before",
        ),
        ("a.csv.gz", gzip.compress(TEXT.encode() * 99, mtime=0)[:20] + b"\xff" * 99, "the gzip file is damaged ("),
        ("a.jsonl.gz", TEXT.encode(), "Not a gzipped file"),
        ("a.csv", b"PAR1....", "it is a Parquet file; rename it to end in .parquet"),
        ("a.csv", b"PK\x03\x04...", "it is a zip archive or a spreadsheet"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd..", "it is compressed with zstd; decompress it with: unzstd a.jsonl"),
        ("a.json", b'[{"prompt": "a"}, {"prompt": "b"}]', "jq -c '.[]' a.json > a.lines.jsonl"),
    ],
)
def test_what_a_file_really_holds_is_recognised(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem in problem_of(str(tmp_path / name))


def test_a_stray_zero_is_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n\x00\x00\n')
    first, bad = read_rows(str(path), key="data.train")
    assert first == Row(f"{path}:1", {"prompt": "a"})
    assert isinstance(bad, Flaw)
    assert bad.problem == "invalid JSON: Expecting value at column 1"


def test_a_gzip_file_may_not_unpack_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_content, "MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * (1 << 20) + b"0"))
    assert "uncompressed size exceeds" in problem_of(str(path))


def test_parquet_rows_have_numbers(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    table = pyarrow.Table.from_pylist([{"prompt": "a", "answer": {"x": [1, 2]}}, {"prompt": "b", "answer": None}])
    pyarrow.parquet.write_table(table, path)
    assert list(read_rows(str(path), key="data.train")) == [
        Row(f"{path} row 1", {"prompt": "a", "answer": {"x": [1, 2]}}),
        Row(f"{path} row 2", {"prompt": "b", "answer": None}),
    ]


def test_parquet_is_read_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tasks.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "a"}]), path)
    assert len(list(read_rows(str(path), key="data.train"))) == 1
    assert capfd.readouterr() == ("", "")


def test_broken_parquet(tmp_path: Path) -> None:
    path = tmp_path / "tasks.parquet"
    path.write_text("prompt,answer\n")
    assert problem_of(str(path)).startswith(f"data.train={path}: {path} cannot be read: Parquet")


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "unlike.csv").touch()
    monkeypatch.chdir(tmp_path)
    assert problem_of("trian.jsonl") == (
        f"data.train=trian.jsonl: no file at {tmp_path}/trian.jsonl; the same folder contains train.jsonl"
    )
    assert f"the folder {tmp_path}/nowhere does not exist" in problem_of("nowhere/train.jsonl")


def test_what_is_no_task_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "a.txt").touch()
    assert problem_of(str(tmp_path)) == f"data.train={tmp_path} is a folder; name one of the files in it: a.jsonl"
    assert "ends in '.txt'; allowed: .jsonl, .json, .csv, .tsv, .parquet, and .gz" in problem_of(
        str(tmp_path / "a.txt")
    )
    (tmp_path / "a.parquet.gz").touch()
    assert "ends in '.gz'; allowed: " in problem_of(str(tmp_path / "a.parquet.gz"))
    problem = problem_of("gsm8k")
    assert "data.train=gsm8k is not a source of tasks" in problem
    assert "<owner>/<name>[/<config>]:<split>" in problem


def test_embedded_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums" / "train.jsonl").write_text('{"prompt": "1 + 1 ="}\n')
    (tmp_path / "examples" / "mood").mkdir(parents=True)
    (tmp_path / "examples" / "mood" / "test.jsonl").write_text('{"prompt": "good"}\n')
    monkeypatch.setattr(sources, "EMBEDDED_FOLDERS", (tmp_path, tmp_path / "examples"))
    assert list(read_rows("embedded:mood/test", key="data.test")) == [Row("embedded:mood/test:1", {"prompt": "good"})]
    assert list(read_rows("embedded:sums/train", key="data.train")) == [
        Row("embedded:sums/train:1", {"prompt": "1 + 1 ="})
    ]
    assert problem_of("embedded:sum/train") == (
        "data.train=embedded:sum/train is not shipped with rft; did you mean embedded:sums/train? "
        "available: embedded:mood/test, embedded:sums/train"
    )


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("openai/gsm8k/main:train", ("openai/gsm8k", "main", "train")),
        ("owner/name.v2:test[:10]", ("owner/name.v2", None, "test[:10]")),
    ],
)
def test_hub_dataset(monkeypatch: pytest.MonkeyPatch, source: str, arguments: tuple[str, str | None, str]) -> None:
    def load_dataset(dataset: str, config: str | None, *, split: str) -> list[dict[str, str]]:
        assert (dataset, config, split) == arguments
        return [{"prompt": "a"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_rows(source, key="data.train")) == [Row(f"{source} row 1", {"prompt": "a"})]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    problem = problem_of("no-such-owner/name/main:train")
    assert problem.startswith("data.train=no-such-owner/name/main:train is not a local file")
    assert "load_dataset('no-such-owner/name', 'main', split='train') failed: Couldn't reach" in problem
    assert "https://huggingface.co/datasets/no-such-owner/name" in problem
    assert "HF_HUB_OFFLINE=1" in problem
