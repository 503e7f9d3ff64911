"""The page of `rft view` in Chromium: what it shows, what its keys do, and that it runs nothing of a run.

`make test-viewer` runs these tests, and leaves screenshots in .venv/viewer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from rft.api.view import open_viewer, view
from rft.run_folder.recorded_tokens import RECORDED, tokens_to_json
from rft.types import Policy, Rollout, StopReason
from tests.chromium.devtools import Browser

PICTURES = Path(__file__).parents[2] / ".venv" / "viewer"
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><!-- \u2028 <b>bold</b>"
TOOL_CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
CALLING = {"role": "assistant", "content": HOSTILE, "tool_calls": [TOOL_CALL]}
TURNS = [
    {"author": "policy", "start": 0, "end": 1, "messages": [CALLING]},
    {"author": "environment", "start": 1, "end": 2, "messages": [{"role": "tool", "name": "add", "content": HOSTILE}]},
    {"author": "policy", "start": 2, "end": 3, "messages": [{"role": "assistant", "content": "4"}], "reward": 0.5},
]  # fmt: skip


def line(step: int, index: int, **values: Any) -> str:
    """A line of rollouts.jsonl with its tokens, `spell` and an end token of the embedded model."""
    scores = {
        "correct": {"value": index % 2, "status": "ok", "reason": f"reason {index}", "answer": "4", "seconds": 0.1}
    }
    whole = {
        "step": step, "phase": "train", "task_id": f"task-{step}", "index": index, "completion": f"answer {index}",
        "num_completion_tokens": 3, "stop": "stop", "policy": {"version": step - 1, "fingerprint": "a"},
        "messages": [{"role": "user", "content": f"question of step {step}"}], "item": {"answer": "4"},
        "reward": float(index % 2), "scores": scores,
    }  # fmt: skip
    rollout = Rollout(
        task_id="t", index=0, prompt_ids=(1,), completion_ids=(40, 41, 42), logprobs=(-0.001, -4.0, -1.0), text="",
        stop=StopReason.STOP, policy=Policy(version=0, fingerprint="a"),
    )  # fmt: skip
    of_start = None if index == 1 else (-0.001, -5.0, -0.5)
    tokens = tokens_to_json(rollout, teacher_logprobs=(-0.5, -0.5, -1.0), start_logprobs=of_start)
    return json.dumps({**whole, RECORDED: tokens, **values}) + "\n"


def write_run(folder: Path) -> Path:
    """Write a run of 12 steps with 10 completions each, and three special ones at the end."""
    folder.mkdir()
    (folder / "config.yaml").write_text("model: {path: 'embedded:tiny'}\n")
    fault = {"correct": {"value": None, "status": "timeout", "reason": HOSTILE, "answer": None, "seconds": 5.0}}
    asked = [{"role": "user", "content": HOSTILE}]
    special = [
        line(13, 0, completion=HOSTILE, messages=asked, item={"a": HOSTILE}, task_id=HOSTILE),
        line(13, 1, turns=TURNS, completion="4"),
        line(13, 2, reward=None, scores=fault, **{RECORDED: None}),
    ]  # fmt: skip
    lines = [line(step, index) for step in range(1, 13) for index in range(10)]
    (folder / "rollouts.jsonl").write_text("".join([*lines, *special]))
    steps = [
        {"step": step, "metrics": {"reward/mean": step / 13, "sync/proved": 1.0},
         "drops": {HOSTILE: 1} if step == 13 else {}, "seconds": {"sample_and_grade": 1.0, "learn": 0.5}}
        for step in range(1, 14)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in steps))
    (folder / "events.jsonl").write_text(json.dumps({"event": "warned", "time": "2026", "text": HOSTILE}) + "\n")
    means = {"before": (0.2, [0.1, 0.3]), "after": (0.7, [0.6, 0.8]), "difference": (0.5, [0.4, 0.6])}
    measured = {name: {"mean": mean, "ci95": ends, "n": 50, "caveat": None} for name, (mean, ends) in means.items()}
    summary = {"status": "finished", "steps": 13, "eval": measured}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "<b>first")


@pytest.fixture
def page(browser: Browser, run: Path, tmp_path: Path) -> Browser:
    browser.prefer("light")
    browser.open(f"file://{view(str(run), out=str(tmp_path / 'v.html'))}")
    return browser


def texts(browser: Browser, selector: str) -> list[str]:
    found: list[str] = browser.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].map(one => one.textContent)"
    )
    return found


def chosen(browser: Browser) -> int:
    place: int = browser.value("[...document.querySelectorAll('.row')].findIndex(row => row.matches('.chosen'))")
    return place


def page_text(browser: Browser) -> str:
    text: str = browser.value("document.getElementById('page-text').textContent")
    return text


def test_it_shows_the_run(page: Browser) -> None:
    assert texts(page, ".card h1") == ["<b>first"]
    assert texts(page, ".score b") == ["0.200", "0.700", "+0.500"]
    assert "better: the whole 95% interval lies above zero" in texts(page, ".verdicts span")
    assert "reward" in texts(page, "figcaption > span:first-child")
    assert texts(page, "#count") == ["all 123"] and page_text(page) == "1 to 50 of 123"
    page.screenshot(PICTURES / "light.png")
    assert page.problems == []


@pytest.mark.parametrize("is_served", [False, True])
def test_nothing_of_a_run_is_run(browser: Browser, run: Path, tmp_path: Path, is_served: bool) -> None:
    with open_viewer(str(run), port=0, tell=print) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        browser.open(server.url if is_served else f"file://{view(str(run), out=str(tmp_path / 'v.html'))}")
        for step, place in ((13, 0), (13, 1), (13, 2)):
            browser.value(f"filterBy({{from_step: {step}}}).then(() => choose({place}))")
            assert browser.value("document.getElementById('detail').dataset.key") == f"0/{120 + place}"
            for details in ("details", "#events details"):
                browser.value(f"document.querySelectorAll({details!r}).forEach(one => {{ one.open = true; }})")
        server.shutdown()
    assert browser.value("window.hacked") is None
    assert browser.value("document.querySelectorAll('img, b b, main script').length") == 0
    assert HOSTILE in texts(browser, "#event-list span")
    assert browser.problems == []


def test_tokens_have_the_colour_of_their_log_probability(page: Browser) -> None:
    page.until("document.querySelectorAll('.token').length", lambda count: count == 3)
    opacity = "getComputedStyle(one).backgroundColor.match(/[\\d.]+(?=\\))/)?.[0]"
    likely, unlikely, between = page.value(f"[...document.querySelectorAll('.token')].map(one => Number({opacity}))")
    assert likely == 0 and unlikely == pytest.approx(0.66, abs=0.01) and between == pytest.approx(0.29, abs=0.01)
    assert page.value("document.querySelectorAll('.token')[1].title") == "token 1\nlog-probability -4 (1.83%)"
    page.press("c")  # by difference to the teacher
    titles = page.value("[...document.querySelectorAll('.token')].map(one => one.title.split('\\n')[2])")
    assert titles[1] == "teacher -0.5, difference 3.5"
    page.press("c", "c")  # by difference to the start, then plain
    assert (
        texts(page, ".say.policy pre") == ["answer 0"] and page.value("document.querySelectorAll('.token').length") == 0
    )
    page.value("coloring = 'logprobs'")


def test_tokens_have_the_colour_of_their_difference_to_the_start(page: Browser) -> None:
    page.press("c", "c")
    assert texts(page, ".tools [aria-pressed=true]") == ["by difference to the start"]
    assert texts(page, ".scale") == ["less likely than at the startmore likely"] and texts(page, ".hint") == []
    titles = page.value("[...document.querySelectorAll('.token')].map(one => one.title.split('\\n')[2])")
    assert titles == [
        "start of the run -0.001, difference 0",
        "start of the run -5, difference 1",
        "start of the run -0.5, difference -0.5",
    ]
    same, more, less = page.value("[...document.querySelectorAll('.token')].map(one => one.style.background)")
    assert (same, more, less) == ("", "rgb(var(--more) / 35%)", "rgb(var(--less) / 18%)")
    page.press("l")
    page.screenshot(PICTURES / "start.png")
    page.prefer("dark")
    page.screenshot(PICTURES / "start-dark.png")
    page.press("j")  # the line of this completion has none
    page.until("document.getElementById('detail').dataset.key", lambda key: key == "0/1")
    assert texts(page, ".tools [aria-pressed=true]") == ["by log-probability"]
    (hint,) = texts(page, ".hint")
    assert "recorded for training completions if learner.beta is above 0" in hint
    page.press("j")
    page.until("document.getElementById('detail').dataset.key", lambda key: key == "0/2")
    assert texts(page, ".tools [aria-pressed=true]") == ["by difference to the start"]
    page.value("coloring = 'logprobs'")
    page.prefer("light")
    assert page.problems == []


def test_an_episode_shows_its_turns(page: Browser) -> None:
    page.value("coloring = 'none'; filterBy({state: 'episode'})")
    assert texts(page, ".say b") == ["user", "policy", "tool", "policy"]
    assert texts(page, ".say pre")[1] == f'{HOSTILE}\nadd({{"a": 2, "b": 2}})'
    assert "reward 0.5" in texts(page, ".say > div")[3]
    page.value("coloring = 'logprobs'")


def test_keys(page: Browser) -> None:
    page.press("j", "j", "k")
    assert chosen(page) == 1
    page.until("document.getElementById('detail').dataset.key", lambda key: key == "0/1")
    page.press("n")
    page.until("document.getElementById('page-text').textContent", lambda text: text == "51 to 100 of 123")
    page.press("k")  # before the first of a page comes the last of the page before
    page.until("document.getElementById('page-text').textContent", lambda text: text == "1 to 50 of 123")
    assert chosen(page) == 49
    page.press("g")
    page.until("document.getElementById('page-text').textContent", lambda text: text == "1 to 10 of 10")
    page.press("x", "/")
    assert page.value("document.activeElement.id") == "words"
    page.press("r", "e", "j")  # letters of a field are no keys
    assert page.value("document.getElementById('words').value") == "rej"
    page.until("document.querySelector('#list .nothing') !== null")
    page.press("Escape")
    page.press("?")
    assert page.value("document.getElementById('help').open") and len(texts(page, "#keys tr")) == 15
    page.screenshot(PICTURES / "keys.png")
    page.press("?", "x")
    assert not page.value("document.getElementById('help').open")
    assert page.problems == []


def test_filters(page: Browser) -> None:
    for values, count in (
        ({"state": "no reward"}, 1), ({"state": "fault"}, 1), ({"low": 1}, 61), ({"words": "STEP 3 reason"}, 22),
        ({"from_step": 12}, 13), ({"order": "lowest"}, 123),
    ):  # fmt: skip
        found = page.value(f"filterBy({{...NO_FILTER, ...{json.dumps(values)}}}).then(() => shown.candidates)")
        assert (values, found) == (values, count)


def test_a_search_can_be_stopped(page: Browser) -> None:
    """A search that would never end shows what it has found, and goes on behind it."""
    page.value("""
        source.page = async (run, query, place, isCurrent, tell) => {
            while (isCurrent()) { tell(1, 0.4); await new Promise(done => setTimeout(done, 5)); }
            return {rows: shown.rows.slice(0, 1), next: 40, candidates: 100, is_complete: false};
        }; filterBy({words: 'rare'}); 0""")
    page.until(
        "document.getElementById('page-text').textContent", lambda text: text.startswith("searched 40%, found 1")
    )
    page.press("Escape")
    page.until("document.getElementById('page-text').textContent", lambda text: text == "1 match on this page")
    assert not page.value("document.getElementById('next').disabled")


def test_light_and_dark(page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.value(background) == "rgb(246, 247, 249)"
    page.prefer("dark")
    assert page.until(background, lambda color: color == "rgb(15, 18, 24)")
    page.screenshot(PICTURES / "dark.png")
    page.press("t")  # light, whatever the system prefers
    assert page.value(background) == "rgb(246, 247, 249)"
    page.press("t")
    assert page.value(background) == "rgb(15, 18, 24)"
    page.press("t")
    page.prefer("light")


def test_two_runs_side_by_side(browser: Browser, run: Path, tmp_path: Path) -> None:
    out = view(f"one={run}", f"two={run}", out=str(tmp_path / "v.html"), max_rollouts=100)
    browser.open(f"file://{out}")
    assert texts(browser, ".card h1") == ["one", "two"]
    assert texts(browser, "#count") == ["one: 50 of 123, chosen evenly; two: 50 of 123, chosen evenly"]
    browser.press("r")
    browser.until("run", lambda number: number == 1)
    browser.screenshot(PICTURES / "two.png")


def test_it_follows_a_run(browser: Browser, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "growing")
    with open_viewer(str(folder), port=0, tell=print) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        browser.open(server.url)
        browser.value("filterBy({from_step: 13})")
        browser.until("shown.rows.length", lambda count: count == 3)
        with (folder / "rollouts.jsonl").open("a") as file:
            file.write(line(14, 0) + '{"torn')
        browser.until("document.getElementById('count').textContent", lambda text: text == "all 124")
        browser.until("document.querySelectorAll('.row').length", lambda count: count == 4)
        browser.screenshot(PICTURES / "served.png")
        server.shutdown()
        assert browser.problems == []


@pytest.mark.parametrize("width", [500, 900])
def test_a_narrow_window(page: Browser, width: int) -> None:
    page.size(width, 1000)
    assert page.until("document.documentElement.scrollWidth", lambda found: found <= width)
    page.screenshot(PICTURES / f"narrow-{width}.png")
    page.size(1400, 1000)
