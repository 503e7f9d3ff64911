"""Grids and searches of fake trials in this process: what is refused, what is shared, what goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.errors import OutputError, UsageError
from rft.run_folder.recorder import read_metrics, read_rollouts

SPACE = ("seed=range(0,50)", "learner.learning_rate=tag(log, interval(1e-5, 1e-2))")
ARMS = ("base", "base + retrieval", "tuned", "tuned + retrieval")
Command = Callable[..., tuple[int, dict[str, Any], str]]


def completions(run: Path) -> list[tuple[Any, ...]]:
    lines = read_rollouts(run)
    return sorted((line["phase"], line["task_id"], line["index"], line["completion"]) for line in lines)


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("running_ray")
def test_the_same_results_whoever_shares(folder: Path, grid: Command, engines: list[Any]) -> None:
    _, shared, _ = grid("seed=0,1")
    assert len(engines) == 1
    (folder / "sweep").rename(folder / "shared")
    engines.clear()
    _, other, _ = grid("seed=0,1", "hydra/launcher=basic")
    assert len(engines) == 2
    assert [trial["score"] for trial in other["trials"]] == [trial["score"] for trial in shared["trials"]]
    for number in ("0", "1"):
        assert completions(folder / "sweep" / number) == completions(folder / "shared" / number)


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("running_ray")
def test_other_samplers_come_one_after_the_other(grid: Command, engines: list[Any]) -> None:
    code, sweep, printed = grid("model.max_context_tokens=100,110")
    assert (code, len(engines)) == (0, 2)
    assert "sets of samplers, used in turn: 2" in printed
    assert sweep["counts"] == {"finished": 2}


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("running_ray")
def test_a_cluster_of_four_cpus_takes_three_learners_beside_the_samplers(grid: Command, engines: list[Any]) -> None:
    code, sweep, printed = grid("seed=0,1,2,3", "hydra.launcher.max_parallel_trials=4")
    assert (code, len(engines), sweep["counts"]) == (0, 1, {"finished": 4})
    assert "4 trials, 3 at a time" in printed
    assert "the cluster has room for 3 trial(s) at a time, not for 4" in printed


def test_an_unknown_key_is_refused_before_the_first_trial(folder: Path, grid: Command, search: Command) -> None:
    with pytest.raises(UsageError, match="learning_rte"):
        grid("learner.learning_rte=1e-3,1e-4")
    with pytest.raises(UsageError, match="learning_rte"):
        search("experiment=quickstart", "learner.learning_rte=interval(1e-5, 1e-3)", "output_dir=found")
    assert not (folder / "sweep").exists() and not (folder / "found").exists()


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("running_ray")
def test_a_search_with_pruning_asks_for_more_trials_on_resume(search: Command, fake: tuple[str, ...]) -> None:
    words = (*fake, *SPACE, "output_dir=found", "sweep.parallel=2")
    code, sweep, _ = search(*words, "sweep.trials=2")
    assert (code, len(sweep["trials"])) == (0, 2)
    assert sweep["searched"] == ["seed", "learner.learning_rate"]
    code, sweep, _ = search("resume=found", "sweep.trials=3")
    assert (code, [trial["number"] for trial in sweep["trials"]]) == (0, [0, 1, 2])
    # The same command goes on as well; another one is refused.
    code, sweep, printed = search(*words, "sweep.trials=4")
    assert (code, [trial["number"] for trial in sweep["trials"]]) == (0, [0, 1, 2, 3])
    assert "3 of them have ended before and are not run again" in printed
    assert len({tuple(trial["overrides"]) for trial in sweep["trials"]}) == 4
    # There is nothing left to do.
    code, again, _ = search(*words, "sweep.trials=4")
    assert (code, len(again["trials"])) == (0, 4)
    with pytest.raises(OutputError, match="holds another sweep"):
        search(*words, "loop.steps=1")


@pytest.mark.e2e
@pytest.mark.usefixtures("fake_ray")
def test_trials_with_a_tool_share_engines(folder: Path, grid: Command, engines: list[Any]) -> None:
    model = ("model.path=embedded:agent", "model.call_open='<call>'", "model.call_close='</call>'")
    script = ("sampler.tokens=model", "sampler.script=['<call>calc(1 + 2)</call><|end|>', '1<|end|>']")
    code, sweep, _ = grid(
        *model, *script, "tools.calc.use=calculator", "seed=0,1", "hydra.launcher.max_parallel_trials=2"
    )
    assert (code, len(engines), sweep["counts"]) == (0, 1, {"finished": 2})
    for number in ("0", "1"):
        turns = [turn for line in read_rollouts(folder / "sweep" / number) for turn in line["turns"]]
        results = [turn["messages"][0]["content"] for turn in turns if turn["author"] == "environment"]
        assert set(results) == {"3"}
        assert all(line["metrics"]["episode/open_at_end"] == 0 for line in read_metrics(folder / "sweep" / number)[1:])


@pytest.mark.e2e
@pytest.mark.usefixtures("fake_ray")
def test_trials_have_arms_of_their_own(folder: Path, grid: Command, engines: list[Any]) -> None:
    (folder / "docs.jsonl").write_text("".join(f'{{"text": "{number} + 1"}}\n' for number in range(100, 110)))
    store = ("retrieval=local", "retrieval.documents=docs.jsonl", "evaluation.arms=true")
    code, sweep, _ = grid(*store, "retrieval.top_k=1,2", "hydra.launcher.max_parallel_trials=2")
    assert (code, len(engines), sweep["counts"]) == (0, 1, {"finished": 2})
    for trial in sweep["trials"]:
        arms = json.loads((folder / "sweep" / str(trial["number"]) / "summary.json").read_text())["arms"]
        assert {name: mean["n"] for name, mean in arms["means"].items()} == dict.fromkeys(ARMS, 8)
        assert arms["means"]["tuned + retrieval"]["mean"] == trial["score"]
