"""`rft view`: what its file holds, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rft.evidence.viewer.collect import evenly

Rft = Callable[..., tuple[int, str, str]]
HOSTILE = "</script><script>alert(1)</script><!-- \u2028 <b>"


def line(step: int, **values: Any) -> str:
    """A line of rollouts.jsonl."""
    whole = {
        "step": step,
        "phase": "train",
        "task_id": f"task {step}",
        "index": 0,
        "completion": "4",
        "num_completion_tokens": 2,
        "stop": "stop",
        "policy": {"version": step, "fingerprint": "a"},
        "messages": [{"role": "user", "content": "2 + 2 = ?"}],
        "item": {"answer": "4"},
        "reward": 1.0,
        "scores": {"correct": {"value": 1.0, "status": "ok", "reason": None, "answer": "4", "seconds": 0.1}},
    }
    return json.dumps(whole | values) + "\n"


def data_of(page: Path) -> list[dict[str, Any]]:
    """The data inside the file."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    data: list[dict[str, Any]] = json.loads(found[1])
    return data


def test_the_file_shows_a_run(rft: Rft, tmp_path: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()
    (run / "rollouts.jsonl").write_text(line(1) + line(2, completion=HOSTILE, reward=None))
    metrics = [
        {"step": 0, "metrics": {"before/mean": 0.5, "before/low": 0.4, "before/high": 0.6}},
        {"step": 1, "metrics": {"reward/mean": 0.25}},
        {"step": 2, "metrics": {"reward/mean": 0.75}},
    ]
    (run / "summary.json").write_text('{"status": "finished", "eval": {"after": {"mean": 0.9, "ci95": [0.8, 1.0]}}}')
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in metrics))
    events = [{"event": "run_started"}, {"event": "warned", "text": "rewards are equal"}]
    (run / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    code, out, _ = rft("view", f"tuned={run}", "--out", "v.html")
    assert code == 0 and out.endswith("v.html: open it in a browser\n")
    [shown] = data_of(tmp_path / "v.html")
    assert shown["name"] == "tuned" and shown["status"] == "finished"
    assert {title: points for title, points in shown["curves"].items() if points} == {
        "reward": [[1, 0.25, None, None], [2, 0.75, None, None]],
        "held-out score": [[0, 0.5, 0.4, 0.6], [2, 0.9, 0.8, 1.0]],
    }
    assert [one["completion"] for one in shown["rollouts"]] == ["4", HOSTILE]
    assert shown["rollouts"][1]["reward"] is None and shown["num_rollouts"] == 2
    assert shown["warnings"] == ["rewards are equal"]
    page = (tmp_path / "v.html").read_text()
    assert page.count("<script") == 2 and "alert(1)</script>" not in page  # the completion stays text
    assert not re.search(r"""(src|href)=|url\(|fetch\(""", page)  # nothing is loaded


def test_completions_are_chosen_evenly() -> None:
    assert list(evenly(range(10), num_items=10, max_items=4)) == [0, 2, 5, 7]
    assert list(evenly(range(3), num_items=3, max_items=4)) == [0, 1, 2]
    assert len(list(evenly(range(9999), num_items=9999, max_items=5000))) == 5000


def test_all_wrong_folders_are_named(rft: Rft, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, error = rft("view", f"{tmp_path}/empty", "missing", "--out", "v.txt")
    assert code == 2
    for part in ("empty is no run folder", "missing is no run folder", "out=v.txt: must end in .html"):
        assert part in error
    assert not (tmp_path / "v.txt").exists()
