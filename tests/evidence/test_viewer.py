"""`rft view`: what its file holds, and what it refuses."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rft.api.view import shared_out
from rft.evidence.viewer.overview import thinned, thinned_parts
from rft.evidence.viewer.verdicts import verdicts
from rft.evidence.viewer.viewed_run import evenly

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


def data_of(page: Path) -> dict[str, Any]:
    """The data inside the file."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_file_shows_a_run(rft: Rft, tmp_path: Path) -> None:
    run = tmp_path / "first"
    run.mkdir()
    (run / "rollouts.jsonl").write_text(line(1) + line(2, completion=HOSTILE, reward=None))
    metrics = [
        {"step": 0, "metrics": {"before/mean": 0.5, "before/low": 0.4, "before/high": 0.6}},
        {"step": 1, "metrics": {"reward/mean": 0.25, "sync/proved": 1.0}, "drops": {"g: timeout": 1}},
        {"step": 2, "metrics": {"reward/mean": 0.75, "sync/proved": 0.0}},
    ]
    (run / "summary.json").write_text('{"status": "finished", "eval": {"after": {"mean": 0.9, "ci95": [0.8, 1.0]}}}')
    lines = [{"drops": {}, "seconds": {"learn": 0.5}, **each} for each in metrics]
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    events = [{"event": "run_started"}, {"event": "warned", "text": "rewards are equal"}]
    (run / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    code, out, _ = rft("view", f"tuned={run}", "--out", "v.html")
    assert code == 0 and out.endswith("v.html: open it in a browser\n")
    data = data_of(tmp_path / "v.html")
    [shown] = data["runs"]
    assert shown["name"] == "tuned" and shown["status"] == "finished" and shown["step"] == 2
    assert {title: points for title, points in shown["curves"].items() if points} == {
        "reward": [[1, 0.25, None, None], [2, 0.75, None, None]],
        "held-out score": [[0, 0.5, 0.4, 0.6], [2, 0.9, 0.8, 1.0]],
    }
    assert shown["facts"] == {"time_s": {"learn": 1.5}, "drops": {"g: timeout": 1}, "syncs": 2, "syncs_proved": 1}
    assert [one["completion"] for one in shown["rollouts"]] == ["4", HOSTILE]
    assert shown["rollouts"][1]["reward"] is None and shown["num_rollouts"] == 2 and shown["phases"] == {"train": 2}
    assert data["shared"] == [[[{"role": "user", "content": "2 + 2 = ?"}], {"answer": "4"}]]  # held once
    assert shown["events"] == [{"kind": "warned", "time": "", "text": "rewards are equal"}]


def test_the_file_holds_everything_and_runs_nothing_else(rft: Rft, tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text(
        line(1, completion=HOSTILE, messages=[{"role": "user", "content": HOSTILE}])
    )
    rft("view", str(tmp_path), "--out", "v.html")
    page = (tmp_path / "v.html").read_text()
    assert page.count("<script") == 2 and "alert(1)</script>" not in page  # the completion stays text
    assert not re.search(
        r"""(src|href)="(?!#)|url\(|@import|innerHTML|insertAdjacentHTML|document\.write|eval\(""", page
    )
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)[-1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "connect-src" not in policy and "unsafe" not in policy


def test_completions_are_chosen_evenly() -> None:
    assert evenly(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly(3, 4).tolist() == [0, 1, 2]
    assert len(set(evenly(9999, 5000).tolist())) == 5000
    assert shared_out([10, 9000, 500], 5000) == [10, 4490, 500] and shared_out([3, 3], 5) == [2, 3]


def test_long_curves_are_thinned_to_means() -> None:
    assert thinned([[1, 0.0, None, 1.0], [2, 1.0, 0.5, 2.0], [3, 4.0, None, None]], 2) == [
        [1.5, 0.5, 0.5, 1.5],
        [3, 4.0, None, None],
    ]
    steps = [(1, {"learn": 1.0}), (2, {"learn": 2.0, "sync": 1.0}), (3, {"learn": 4.0})]
    assert thinned_parts(steps, most=2) == [[1, {"learn": 1.5, "sync": 0.5}], [3, {"learn": 4.0}]]
    assert thinned_parts(steps, is_sum=True, most=2)[0] == [1, {"learn": 3.0, "sync": 1.0}]


def test_verdicts_have_a_tone() -> None:
    estimate = {"mean": 0.2, "ci95": [0.1, 0.3], "n": 30, "caveat": None}
    fit = {"verdict": "overfit", "text": "overfit from step 4"}
    summary = {"eval": {"difference": estimate}, "fit": fit, "syncs": 2, "drops": {"g: timeout": 3}}
    found = verdicts(summary, {"audit": {"graders": "passed"}}, {"syncs": 2, "syncs_proved": 2})
    assert [(one["about"], one["text"], one["tone"]) for one in found] == [
        ("held-out tasks", "better: the whole 95% interval lies above zero", "good"),
        ("policy syncs", "2 of 2 proved by every sampler", "good"),
        ("fit", "overfit from step 4", "bad"),
        ("audit of the graders", "passed", "neutral"),
        ("rewards", "3 completions without one", "neutral"),
    ]


def test_all_wrong_folders_are_named(rft: Rft, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, error = rft("view", f"{tmp_path}/empty", "missing", "--out", "v.txt")
    assert code == 2
    for part in ("empty is no run folder", "missing is no run folder", "out=v.txt: must end in .html"):
        assert part in error
    assert not (tmp_path / "v.txt").exists()
