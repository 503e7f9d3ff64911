"""The end of a run: the summary's numbers, the honest choice of samples, and a page that survives hostile texts."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.metrics.intervals import Estimate
from rft.run_folder.summary import build_summary
from rft.terminal.final_report import SampleComparison, choose_samples, final_report, verdict

BEFORE = Estimate(mean=0.2, ci95=(0.1, 0.3), n=50)
AFTER = Estimate(mean=0.7, ci95=(0.6, 0.8), n=50)
DIFFERENCE = Estimate(mean=0.5, ci95=(0.4, 0.6), n=50)
LINES = [
    {"step": 0, "metrics": {}, "seconds": {"evaluate": 3.0}, "drops": {}},
    {"step": 1, "metrics": {"reward/mean": 0.1}, "seconds": {"learn": 1.0}, "drops": {"g: timeout": 2}},
    {"step": 2, "metrics": {"reward/mean": None, "sync/proved": 0.0}, "seconds": {"learn": 1.5}, "drops": {}},
    {
        "step": 3,
        "metrics": {"reward/mean": 0.4, "sync/proved": 1.0},
        "seconds": {"learn": 2.0, "sync": 0.5},
        "drops": {"g: timeout": 1},
    },
]
ABOUT = {"metric": "reward", "split": "test", "temperature": 0.0}


def lines(task_id: str, *rewards: float, text: str = "text") -> list[dict[str, Any]]:
    """A task's lines of rollouts.jsonl, as far as samples need them."""
    return [
        {
            "task_id": task_id,
            "messages": [{"role": "user", "content": f"prompt {task_id}"}],
            "index": index,
            "completion": f"{text} {index}",
            "reward": reward,
        }
        for index, reward in enumerate(rewards)
    ]


def summary(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"before": BEFORE, "after": AFTER, "difference": DIFFERENCE, "about": ABOUT, **changes}
    return build_summary(LINES, status="finished", wall_s=12.5, **options)


def printed(
    summary: dict[str, Any], samples: tuple[SampleComparison, ...] = (), width: int = 80, encoding: str = "utf-8"
) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = Console(file=file, width=width, _environ={})
    final_report(console, summary=summary, samples=samples, paths={"run": Path("/runs/" + "long/" * 30)})
    file.seek(0)
    return file.read()


def test_summary_adds_up_steps_and_phases() -> None:
    assert json.loads(json.dumps(summary(), allow_nan=False)) == {
        "status": "finished",
        "steps": 3,
        "wall_s": 12.5,
        "time_s": {"evaluate": 3.0, "learn": 4.5, "sync": 0.5},
        "reward": {"first": 0.1, "last": 0.4},
        "eval": {
            "before": {"mean": 0.2, "ci95": [0.1, 0.3], "n": 50, "caveat": None},
            "after": {"mean": 0.7, "ci95": [0.6, 0.8], "n": 50, "caveat": None},
            "difference": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 50, "caveat": None},
            "metric": "reward",
            "split": "test",
            "temperature": 0.0,
        },
        "drops": {"g: timeout": 3},
        "syncs": 2,
        "syncs_proved": 1,
    }


def test_summary_of_a_run_without_steps_holds_every_key() -> None:
    result = build_summary([], status="failed", wall_s=1.0)
    assert result["steps"] == 0
    assert result["reward"] == {"first": None, "last": None}
    assert result["eval"] == {"before": None, "after": None, "difference": None}


def test_pairs_are_counted_over_all_steps() -> None:
    counts = [
        {"learner/pairs/learned_from": 3.0, "learner/pairs/equal_rewards": 1.0, "learner/dpo/margin": 0.4},
        {"learner/pairs/learned_from": 4.0, "learner/pairs/equal_rewards": 0.0},
    ]
    lines = [{"step": step, "metrics": of, "seconds": {}, "drops": {}} for step, of in enumerate(counts, start=1)]
    result = build_summary(lines, status="finished", wall_s=1.0)
    assert result["pairs"] == {"learned_from": 7, "equal_rewards": 1}
    page = printed(result)
    assert "Preference pairs\n  learned from   7\n  equal rewards  1\n" in page


def test_the_share_of_busy_engines_is_the_mean_of_the_steps_with_episodes() -> None:
    shares = [{}, {"episode/engine_busy_share": 0.25}, {"episode/engine_busy_share": 0.5}, {}]
    lines = [{"step": step, "metrics": of, "seconds": {}, "drops": {}} for step, of in enumerate(shares)]
    result = build_summary(lines, status="finished", wall_s=1.0)
    assert result["engine_busy_share"] == 0.375
    assert "  engines busy  38% of the episodes' time\n" in printed(result)


def test_samples_are_the_first_tasks_in_both_whatever_their_rewards() -> None:
    before = lines("a", 1.0, 0.0) + lines("gone", 0.0) + lines("b", 0.0, 1.0) + lines("c", 0.0)
    after = lines("c", 1.0, text="new") + lines("b", 0.0, 1.0, text="new") + lines("a", 0.0, text="new")
    first, second = choose_samples(before, after, count=2)
    assert (first.task_id, second.task_id) == ("a", "b")
    assert first == SampleComparison(
        task_id="a", prompt="prompt a", before="text 0", before_reward=1.0, after="new 0", after_reward=0.0
    )


@pytest.mark.parametrize(
    ("author", "prompt"), [("environment", "I think of a number."), ("policy", "prompt a")], ids=["first", "after"]
)
def test_the_prompt_of_an_episode_is_what_stands_before_the_policys_first_turn(author: str, prompt: str) -> None:
    [line] = lines("a", 1.0)
    line["turns"] = [{"author": author, "messages": [{"role": "user", "content": "I think of a number."}]}]
    [shown] = choose_samples([line], [line], count=1)
    assert shown.prompt == prompt


@pytest.mark.parametrize(
    ("ci95", "word"),
    [((0.1, 0.3), "better"), ((-0.3, -0.1), "worse"), ((-0.1, 0.3), "no difference"), (None, "too few")],
)
def test_the_verdict_follows_the_interval(ci95: tuple[float, float] | None, word: str) -> None:
    assert verdict(Estimate(mean=0.0, ci95=ci95, n=9)).startswith(word)


def test_the_page_says_what_was_measured_how_and_on_what() -> None:
    page = printed(summary())
    assert "finished after 3 steps" in page
    assert "Held-out tasks: metric reward, split test, temperature 0.0" in page
    for row in (["before", "0.200", "[0.100, 0.300]", "50"], ["after - before", "+0.500", "[+0.400, +0.600]", "50"]):
        assert any(all(cell in line for cell in row) for line in page.splitlines())
    assert "better: the whole 95% interval lies above zero" in page
    assert "g: timeout  3" in page
    assert "/runs/" + "long/" * 29 + "long\n" in page  # paths are not broken


def test_a_caveat_stands_below_the_table() -> None:
    doubted = Estimate(mean=0.5, ci95=(0.4, 0.6), n=50, caveat="the scores are skewed")
    assert "\nafter - before: the scores are skewed\nbetter: " in printed(summary(difference=doubted))


def test_the_page_says_how_the_run_fits() -> None:
    text = "overfit from step 40: since then validation -0.300 [-0.400, -0.200]"
    assert f"\n{text}\n" in printed(summary() | {"fit": {"text": text}})


def test_no_measurement_is_said_to_be_none() -> None:
    assert "no held-out measurement" in printed(summary(before=None, after=None, difference=None))


@pytest.mark.parametrize(("width", "encoding"), [(80, "utf-8"), (120, "utf-8"), (80, "ascii"), (60, "latin-1")])
def test_hostile_texts_are_shown_not_obeyed(width: int, encoding: str) -> None:
    sample = SampleComparison(
        task_id="a",
        prompt="[red]p[/red] [/nonsense]",
        before="\x1b[2J\x07 \u202e [bold]b \u00e9\ud800" + "\n" * 500 + "the end",
        before_reward=None,
        after="x" * 5000,
        after_reward=0.5,
    )
    page = printed(summary(), (sample,), width=width, encoding=encoding)
    assert not any(ord(character) < 32 and character != "\n" for character in page)
    assert "\u202e" not in page
    assert "[red]p[/red] [/nonsense]" in page
    assert r"\x1b[2J" in page
    assert "the end" in page
    assert "before: no reward" in page
    assert "after: reward 0.5" in page
    framed = [line for line in page.splitlines() if line[:1] in ("\u2502", "|")]
    assert framed and max(map(len, framed)) <= width
    assert len(page.splitlines()) < 120


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    after = "begin " + "m" * 2000 + " answer 42"
    sample = SampleComparison(task_id="a", prompt="p", before="", before_reward=0.0, after=after, after_reward=1.0)
    page = printed(summary(), (sample,), width=2000)
    assert "begin mmm" in page
    assert f"({len(after) - 600} characters omitted)" in page
    assert "mmm answer 42" in page
    assert "(empty)" in page


def retained(num_stages: int) -> dict[str, Any]:
    """Results of one family after this number of stages."""
    change = {"mean": -0.25, "ci95": [-0.5, 0.0], "n": 9}
    score = {"mean": 0.5, "ci95": [0.25, 0.75], "n": 9}
    gcd = {"trained_in": "01", "scores": [0.75] * num_stages, "backward_transfer": change, "forgetting": None}
    retention = {"stages": ["before", "01", "02"][:num_stages], "families": {"gcd": gcd}, "guard": {}}
    retention |= {"backward_transfer": change, "forgetting": None, "left_out": []}
    return {"families": {"gcd": {"before": score, "after": score, "difference": change}}, "retention": retention}


def test_the_page_says_how_each_family_does_and_what_was_forgotten() -> None:
    page = printed(summary() | retained(3))
    (stages,) = [line for line in page.splitlines() if "0.750 │" in line and "gcd" in line]
    assert [cell.strip() for cell in stages.strip("│").split("│")][:5] == ["gcd", "01", "0.750", "0.750", "0.750"]
    assert "\nbackward transfer: -0.250 [-0.500, +0.000], mean over 1 family that" in page
    assert "trained in" not in printed(summary() | retained(2))
