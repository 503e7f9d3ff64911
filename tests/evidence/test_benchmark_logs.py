"""Logs of lm-evaluation-harness and inspect_ai, in the form in which these programs write them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rft.api.compare import compare
from rft.evidence.benchmark_logs import read_log


def harness_sample(doc_id: int, value: float, filter: str = "none") -> dict[str, Any]:
    """A line of lm_eval 0.4.13's `samples_<task>_<time>.jsonl`, without the parts that are not read."""
    return {
        "doc_id": doc_id, "doc": {"question": "1+1", "answer": "2"}, "target": "2", "filter": filter,
        "filtered_resps": ["2"], "metrics": ["exact_match"], "prompt_hash": f"p{doc_id}", "exact_match": value,
    }  # fmt: skip


def harness_log(folder: Path, values: list[float]) -> Path:
    folder.mkdir()
    file = folder / "samples_gsm8k_2026-11-30T01-02-03.456789.jsonl"
    file.write_text("".join(json.dumps(harness_sample(number, value)) + "\n" for number, value in enumerate(values)))
    return file


def inspect_log(file: Path, samples: list[dict[str, Any]], status: str = "success") -> Path:
    file.write_text(json.dumps({"version": 2, "status": status, "eval": {"task": "sums"}, "samples": samples}))
    return file


def test_the_log_of_a_harness_task(tmp_path: Path) -> None:
    file = harness_log(tmp_path / "base", [1.0, 0.0])
    (first, second) = read_log(file) or []
    assert (first["task_id"], first["scores"]) == ("gsm8k/0", {"exact_match": {"value": 1.0}})
    assert (second["task_id"], second["scores"]) == ("gsm8k/1", {"exact_match": {"value": 0.0}})
    assert "reward" not in first


def test_filters_are_metrics_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "samples_gsm8k.jsonl"
    lines = [harness_sample(0, 0.0, "strict-match"), harness_sample(0, 1.0, "flexible-extract")]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ((line),) = read_log(file) or []
    assert line["scores"] == {
        "exact_match, strict-match": {"value": 0.0},
        "exact_match, flexible-extract": {"value": 1.0},
    }


def test_the_log_of_inspect(tmp_path: Path) -> None:
    samples = [
        {"id": 1, "epoch": 1, "input": "1+1", "target": "2", "scores": {"match": {"value": "C"}}},
        {"id": 1, "epoch": 2, "input": "1+1", "target": "2", "scores": {"match": {"value": "I"}}},
        {"id": 2, "epoch": 1, "input": "1+2", "target": "3", "scores": {"match": {"value": math.nan}}},
        {"id": 3, "epoch": 1, "input": "?", "target": "3", "error": {"message": "died"},
         "scores": {"match": {"value": "I"}}},
        {"id": 4, "epoch": 1, "input": "?", "target": "3",
         "scores": {"rubric": {"value": {"style": 0.5, "tone": "P"}}}},
    ]  # fmt: skip
    lines = read_log(inspect_log(tmp_path / "log.json", samples)) or []
    no_rubric = {"rubric, style": {"value": None}, "rubric, tone": {"value": None}}
    assert [(line["task_id"], line["scores"]) for line in lines] == [
        ("sums/1", {"match": {"value": 1.0}, **no_rubric}),
        ("sums/1", {"match": {"value": 0.0}, **no_rubric}),
        ("sums/2", {"match": {"value": None}, **no_rubric}),  # unscored is not 0
        ("sums/3", {"match": {"value": None}, **no_rubric}),  # neither is a failure
        ("sums/4", {"match": {"value": None}, "rubric, style": {"value": 0.5}, "rubric, tone": {"value": 0.5}}),
    ]
    with pytest.raises(ValueError, match="has no samples; inspect must log them"):
        read_log(inspect_log(tmp_path / "empty.json", []))
    with pytest.raises(ValueError, match="and must end, but its status is started"):
        read_log(inspect_log(tmp_path / "empty.json", [], status="started"))


@pytest.mark.parametrize(
    ("value", "read"),
    [("P", 0.5), ("N", 0.0), ("Yes", 1.0), ("false", 0.0), ("0.25", 0.25), (True, 1.0), ("nan", None), ("good", None)],
)
def test_values_of_inspect(tmp_path: Path, value: Any, read: float | None) -> None:
    """As its `value_to_float` reads them; but what is no number has no value, where inspect counts 0."""
    ((line),) = read_log(inspect_log(tmp_path / "log.json", [{"id": 1, "scores": {"own": {"value": value}}}])) or []
    assert line["scores"]["own"]["value"] == read


def test_a_log_of_inspect_that_ended_early_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    file = inspect_log(tmp_path / "log.json", [{"id": 1, "scores": {}}], status="error")
    assert len(read_log(file, told.append) or []) == 1
    assert told == [f"{file}: the program ended early (status error), and its log has only 1 sample"]


def test_inspects_own_format_is_refused_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"inspect log convert .*log\.eval --to json --output-dir"):
        read_log(tmp_path / "log.eval")


def test_other_files_are_no_logs(tmp_path: Path) -> None:
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "rollouts.jsonl").write_text("")
    assert read_log(tmp_path / "numbers.json") is None
    assert read_log(tmp_path / "rollouts.jsonl") is None


def test_logs_are_compared_pair_by_pair(tmp_path: Path) -> None:
    base = harness_log(tmp_path / "base", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    tuned = harness_log(tmp_path / "tuned", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    (one,) = compare(f"base={base}", f"tuned={tuned}").compared
    assert (one.metric, one.comparison.num_tasks) == ("exact_match", 8)
    (tested,) = one.tested
    assert tested.difference.estimate.mean == 5 / 8
    assert (tested.test, tested.p_value) == ("McNemar", 2 / 2**5)  # five of five pairs that differ


def test_logs_that_inspect_has_written() -> None:
    """Trimmed logs of inspect_ai 0.3.285: six sums of the embedded model and of an adapter, with two epochs."""
    logs = Path(__file__).parent / "inspect_logs"
    (one,) = compare(f"base={logs}/sums_twice_base.json", f"tuned={logs}/sums_twice_tuned.json", pass_at=[2]).compared
    means = {name: value.mean for name, value in one.comparison.means.items()}
    assert (one.metric, one.comparison.num_tasks, means) == (
        "match",
        6,
        {"base": 0.25, "tuned": 1.0},
    )  # 3 of 12, 12 of 12
    assert {name: value.mean for name, value in one.pass_at[2].items()} == {"base": 0.5, "tuned": 1.0}
    lines = read_log(logs / "choices_base.json") or []
    assert [line["scores"] for line in lines] == [{"choice": {"value": 0.0}}] * 4
    assert lines[0]["item"] == {"target": "D", "choices": ["189", "180", "178", "179"]}
    (one,) = compare(f"base={logs}/chats_base.json", f"tuned={logs}/chats_tuned.json").compared
    assert one.comparison.num_tasks == 2  # the ids of the messages of a chat differ between the logs
    (one,) = compare(f"base={logs}/one_fails_base.json", f"tuned={logs}/one_fails_tuned.json").compared
    assert (one.comparison.num_tasks, one.comparison.num_left_out) == (3, 1)
