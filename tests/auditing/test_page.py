"""The page and the terminal show what others wrote, and obey none of it."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from rft.auditing.page import page
from rft.auditing.terminal import print_report

EVIL = "<script>alert(1)</script>\x1b[2J</pre><img src=http://x/y onerror=z>\ud800{{ 7*7 }}[bold]"


@pytest.fixture
def report():
    example = {
        "task": EVIL, "prompt": EVIL, "reference": EVIL, "completion": EVIL, "num_characters": 9, "note": EVIL,
        "reward": 1.0, "share": 1.0,
        "scores": {"main": {"value": 1.0, "status": "ok", "reason": EVIL, "answer": EVIL}},
    }  # fmt: skip
    texts = {key: f"{key} of it" for key in ("why", "how", "threshold", "remedy")}
    probe = {"name": "enumeration", "family": "free", "result": "failed", "message": f"paid: {EVIL}", "figures": {},
             "examples": [example], "num_examples": 3, "seconds": 0.1, **texts}  # fmt: skip
    fine = {**probe, "name": "latency", "result": "passed", "examples": [], "num_examples": 0}
    grader = {"use": EVIL, "weight": 0.5, "sha256": "0" * 64, "range": (0.0, 1.0), "is_style": False, "timeout_s": 30}
    return {
        "verdict": "failed", "time": "2026-11-20T12:00:00+00:00", "seconds": 1.0, "gold": "answer", "format": "bare",
        "tasks": {"source": EVIL, "count": 3, "with_reference": 3}, "graded": 12, "graders": {EVIL: grader},
        "counts": {"failed": 1, "warned": 0, "passed": 1, "not applicable": 0}, "probes": [probe, fine],
    }  # fmt: skip


class Elements(HTMLParser):
    """What the page is made of."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_harmless(report):
    html = page(report)
    html.encode("ascii")
    elements = Elements()
    elements.feed(html)
    assert not {"script", "img", "link", "iframe", "object", "base"} & set(elements.tags)
    assert not {"src", "href", "onerror", "style", "action"} & {name for name, _ in elements.attributes}
    assert "\x1b" not in html
    assert "<script>alert(1)</script>\\x1b[2J</pre><img src=http://x/y onerror=z>\\ud800{{ 7*7 }}" in elements.text
    for text in ("enumeration", "why of it", "remedy of it", "threshold of it", "and 2 more", "latency"):
        assert text in elements.text
    assert not re.search(r"url\(|@import", html)


def test_the_terminal_shows_failures_first_and_no_control_characters(report):
    out = io.StringIO()
    print_report(Console(file=out, width=100), report, folder=Path("runs/a"), page=Path("runs/a/audit.html"))
    text = out.getvalue()
    assert text.startswith("x failed: enumeration\n")
    assert "\x1b" not in text
    assert "\ud800" not in text
    assert "reward 1 for '<script>alert(1)</script>" in text
    assert "[bold]" in text
    assert text.rstrip().endswith("report: runs/a; page for colleagues: runs/a/audit.html")


@pytest.fixture
def environment_report(report):
    turns = [{"heard": EVIL, "reply": EVIL}]
    example = {"task": EVIL, "prompt": EVIL, "policy": "idle", "turns": turns, "num_turns": 6, "score": None,
               "status": "environment error", "reason": EVIL}  # fmt: skip
    failed, fine = report["probes"]
    kept = {name: value for name, value in report.items() if name not in ("graders", "graded", "format")}
    about = {"use": EVIL, "style": None, "sha256": "0" * 64}
    return {**kept, "environment": about, "episodes": 12, "probes": [{**failed, "examples": [example]}, fine]}


def test_the_report_of_an_environment(environment_report, tmp_path):
    elements = Elements()
    elements.feed(page(environment_report))
    assert not {"script", "img", "link"} & set(elements.tags)
    for text in ("12 episodes played", "environment error", "idle", "remedy of it"):
        assert text in elements.text
    console = Console(file=io.StringIO(), width=100)
    print_report(console, environment_report, folder=tmp_path, page=tmp_path / "audit.html")
    shown = console.file.getvalue()
    assert "\x1b[2J" not in shown
    for text in ("environment error for the policy 'idle', task <script>", "and 5 more turns", "12 episodes played in"):
        assert text in shown
