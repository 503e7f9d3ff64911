"""Training rows from the rollouts of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.config.pairs import PairsConfig
from rft.data.demonstrations import to_demonstration
from rft.errors import DataError, UsageError
from rft.run_folder.pair_files import RowCounts, write_rows
from rft.run_folder.rollout_files import RolloutFiles
from rft.types import Split

PROMPT = [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "2 + 2 = ?"}]


def line(completion: str, reward: float | None, **changes: Any) -> dict[str, Any]:
    status = "grader error" if reward is None else "ok"
    values = {
        "step": 1,
        "phase": "train",
        "task_id": "a",
        "messages": PROMPT,
        "item": {"answer": "4"},
        "completion": completion,
        "num_completion_tokens": len(completion),
        "stop": "stop",
        "scores": {"correct": {"value": reward, "status": status}},
        "reward": reward,
    }
    return values | changes


def record(folder: Path, *groups: Sequence[dict[str, Any]]) -> None:
    """Record each group as a segment of its own, as long runs do with many."""
    folder.mkdir()
    for group in groups:
        files = RolloutFiles(folder, segment_bytes=1)
        files.append(b"".join(json.dumps(each).encode() + b"\n" for each in group))
        files.close()


def extract(tmp_path: Path, **options: Any) -> tuple[RowCounts, list[dict[str, Any]]]:
    out = tmp_path / "rows.jsonl"
    damaged: list[str] = []
    counts = write_rows(PairsConfig(run=str(tmp_path / "run"), out=str(out), **options), damaged.append)
    assert not damaged
    return counts, [json.loads(text) for text in out.read_text().splitlines()]


def test_preference_pairs_of_rotated_rollouts(tmp_path: Path) -> None:
    record(
        tmp_path / "run",
        [line("four", 0.0), line("4", 1.0), line("5", 0.0), line("44", 1.0, stop="length")],
        [line("4", 1.0, task_id="b"), line("4!", 1.0, task_id="b")],
        [line("4", 1.0, step=2), line("5", None, step=2), line("", 0.0, step=2)],
        [line("4", 1.0, step=3), line("5", 0.0, step=3)],
        [line("4.", 0.5, step=4), line("5", 0.0, step=4)],
        [line("4", 1.0, step=4, phase="after", task_id="held out")],
    )
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [*(f"rollouts-{number:06d}.jsonl.gz" for number in range(1, 6)), "rollouts.jsonl"]
    counts, rows = extract(tmp_path)
    assert rows == [
        {
            "prompt": PROMPT,
            "chosen": [{"role": "assistant", "content": "4"}],
            "rejected": [{"role": "assistant", "content": "5"}],  # as long as the chosen one
            "answer": "4",
            "recorded": {"task_id": "a", "step": 1, "chosen_reward": 1.0, "rejected_reward": 0.0},
        },
        {
            "prompt": PROMPT,
            "chosen": [{"role": "assistant", "content": "4."}],
            "rejected": [{"role": "assistant", "content": "5"}],
            "answer": "4",
            "recorded": {"task_id": "a", "step": 4, "chosen_reward": 0.5, "rejected_reward": 0.0},
        },
    ]
    assert counts.lines() == [
        "chosen completions: 1.5 tokens on average",
        "rejected completions: 1.0 tokens on average",
        "left out: 1 group with equal rewards",
        "left out: 1 group with fewer than two usable completions",
        "left out: 1 group with the same row as an earlier group",
        "left out: 1 completion cut before their end (length)",
        "left out: 1 completion of the phase after, which trains nothing",
        "left out: 1 completion without a reward (correct: grader error)",
        "left out: 1 completion without text",
    ]
    assert (counts.rows, counts.groups, counts.prompts) == (2, 5, {"a": 2})


def test_limits_of_pairs(tmp_path: Path) -> None:
    record(
        tmp_path / "run",
        [line("4", 1.0), line("5", 0.0)],
        [line("4", 1.0, step=2), line("6", 0.0, step=2)],
        [line("4", 0.9, step=3, task_id="b"), line("5", 0.0, step=3, task_id="b")],
        [line("4", 1.0, step=4, task_id="c"), line("5", 0.5, step=4, task_id="c")],
    )
    counts, rows = extract(tmp_path, min_gap=0.5, min_reward=1.0, max_per_prompt=1)
    assert [row["recorded"]["step"] for row in rows] == [1]
    assert counts.groups_left_out == {
        "beyond max_per_prompt=1": 1,
        "without a reward of at least 1": 1,
        "with rewards that differ by min_gap=0.5 or less": 1,
    }


def test_demonstrations_train_their_last_message_alone(tmp_path: Path) -> None:
    chat = [*PROMPT, {"role": "assistant", "content": "5"}, {"role": "user", "content": "Wrong."}]
    item = {"answer": "4", "id": "own", "completion": "a column of the task"}
    record(tmp_path / "run", [line("6", 0.0, messages=chat, item=item), line("4", 1.0, messages=chat, item=item)])
    counts, (row,) = extract(tmp_path, rows="demonstrations")
    assert row == {
        "messages": [
            *PROMPT,
            {"role": "assistant", "content": "5", "weight": 0},
            {"role": "user", "content": "Wrong."},
            {"role": "assistant", "content": "4"},
        ],
        "answer": "4",
        "recorded": {"task_id": "a", "step": 1, "chosen_reward": 1.0},
    }
    assert counts.lines()[-1] == "left out: the column completion of 1 row, a name that rows use themselves"
    read = to_demonstration(row, split=Split.TRAIN, system=None)
    assert (read.messages, read.trained) == (tuple(chat), (False, False, False, False, True))


def test_groups_of_equal_rewards_make_demonstrations_only_above_a_limit(tmp_path: Path) -> None:
    record(tmp_path / "run", [line("4", 1.0), line("four", 1.0)], [line("5", 0.2, step=2), line("6", 0.2, step=2)])
    with pytest.raises(DataError, match="none of its 2 groups of completions makes a row; left out: 2 groups with eq"):
        extract(tmp_path, rows="demonstrations")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    counts, (row,) = extract(tmp_path, rows="demonstrations", min_reward=1.0)
    assert row["messages"][-1] == {"role": "assistant", "content": "4"}
    assert counts.groups_left_out == {"without a reward of at least 1": 1}


def test_a_run_without_a_chat_template_gives_texts(tmp_path: Path) -> None:
    prompt = [{"role": "user", "content": "2 + 2 ="}]
    record(tmp_path / "run", [line(" 4", 1.0, messages=prompt), line(" 5", 0.0, messages=prompt)])
    (tmp_path / "run" / "config.yaml").write_text("data: {format: raw}\n")
    _, (row,) = extract(tmp_path)
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("2 + 2 =", " 4", " 5")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    record(tmp_path / "run", [line("4", 1.0), line("5", 0.0)])
    config = PairsConfig(run=str(tmp_path / "run"), out=str(tmp_path / "rows.jsonl"), dry_run=True)
    assert write_rows(config, print).rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_damaged_line_leaves_no_file(tmp_path: Path) -> None:
    record(tmp_path / "run", [line("4", 1.0), line("5", 0.0)], [{"phase": "train", "step": 2}])
    with pytest.raises(DataError, match="a line of the run's rollouts is damaged: task_id: field required"):
        extract(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "rows.jsonl"
    with pytest.raises(UsageError) as refused:
        write_rows(PairsConfig(run=str(tmp_path), out=str(out)), print)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [f"run={tmp_path}", f"out={out}"]
    out.parent.mkdir()
    out.touch()
    with pytest.raises(UsageError, match="exists already; choose another file, or remove it"):
        write_rows(PairsConfig(run=str(tmp_path), out=str(out)), print)


def test_completions_of_the_same_text_make_no_pair(tmp_path: Path) -> None:
    """A grader that is not deterministic may give them different rewards."""
    record(tmp_path / "run", [line("4", 1.0), line("4", 0.0)])
    with pytest.raises(DataError, match="left out: 1 group whose best and worst completions have the same text"):
        extract(tmp_path)


def said(author: str, *contents: str, **more: Any) -> dict[str, Any]:
    role = "assistant" if author == "policy" else "user"
    return {"author": author, "messages": [{"role": role, "content": text, **more} for text in contents]}


def test_a_row_of_an_episode_has_what_was_said(tmp_path: Path) -> None:
    game = [said("environment", "1-31"), said("policy", "16"), said("environment", "lower"), said("policy", "8")]
    won, lost = (
        line("8", 1.0, messages=[], turns=game),
        line("9", 0.0, messages=[], turns=[*game[:3], said("policy", "9")]),
    )
    record(tmp_path / "run", [won, lost])
    _, [row] = extract(tmp_path, rows="demonstrations")
    assert row["messages"] == [
        {"role": "user", "content": "1-31"},
        {"role": "assistant", "content": "16"},
        {"role": "user", "content": "lower"},
        {"role": "assistant", "content": "8"},
    ]
    demonstration = to_demonstration(row, split=Split.TRAIN, system=None)
    assert demonstration.trained == (False, True, False, True)


def test_episodes_of_one_turn_make_pairs(tmp_path: Path) -> None:
    group = [
        line(text, reward, messages=[PROMPT[0]], turns=[said("environment", "Go."), said("policy", text)])
        for text, reward in (("right", 1.0), ("wrong", 0.0))
    ]
    record(tmp_path / "run", group)
    _, [row] = extract(tmp_path)
    assert row["prompt"] == [PROMPT[0], {"role": "user", "content": "Go."}]
    assert (row["chosen"], row["rejected"]) == (
        [{"role": "assistant", "content": "right"}],
        [{"role": "assistant", "content": "wrong"}],
    )


def test_episodes_that_no_row_can_hold_are_counted(tmp_path: Path) -> None:
    call = said("policy", "", tool_calls=[{"id": "c0", "type": "function", "function": {"name": "a", "arguments": ""}}])
    several = [said("policy", "x"), said("environment", "go on"), said("policy", "y")]
    opened = [said("environment", "More:"), said("policy", "4")]
    record(
        tmp_path / "run",
        [line("3", 1.0, turns=[call, said("environment", "3"), said("policy", "3")]), line("4", 0.0)],
        [line("y", 1.0, turns=several, task_id="b"), line("4", 1.0, turns=opened, task_id="b")],
        [line("4", 1.0, task_id="c"), line("5", 0.0, task_id="c")],
    )
    counts, rows = extract(tmp_path)
    assert len(rows) == 1
    assert counts.completions_left_out == {
        "with tool calls, which rows cannot hold": 1,
        "of several turns, which only rows=demonstrations of chats can hold": 1,
        "whose environment added to the prompt of its row, or replaced it": 1,
    }
