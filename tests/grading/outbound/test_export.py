"""Graders as a reward function of TRL's: called as TRL calls it, and by TRL itself."""

import asyncio
import threading
from pathlib import Path

import pytest

from rft.errors import GradeError
from rft.grading import load_grader
from rft.grading.outbound.export import as_trl_reward

GRADERS = """
from rft.grading import per_group

def correct(completion, task):
    if task.item["answer"] == "broken":
        raise KeyError("gone")
    return None if task.item["answer"] is None else completion == task.item["answer"]

@per_group
def first(completions, rollouts):
    assert [len(rollout.completion_ids) for rollout in rollouts] == [len(one) for one in completions]
    return [index == 0 for index in range(len(completions))]

def asked(task):
    return len(task.messages[-1]["content"])
"""


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "my_graders.py"
    path.write_text(GRADERS)
    return lambda name, **entry: load_grader(name, {"use": f"{path}:{name}", **entry})


def test_a_batch(load):
    with as_trl_reward(load("correct")) as reward:
        assert reward.__name__ == "correct"
        prompts = ["a", "a", "b", "c"]
        found = reward(
            prompts=prompts,
            completions=["4", "5", "4", "4"],
            completion_ids=[[1], [1], [1], [1]],
            answer=["4", "4", "5", None],
            trainer_state=object(),
            log_extra=print,
            log_metric=print,
        )
        assert found == [1.0, 0.0, 0.0, None]
        chat = [[{"role": "user", "content": "?"}]] * 2
        replies = [[{"role": "assistant", "content": "4"}], [{"role": "assistant", "content": "5"}]]
        assert reward(prompts=chat, completions=replies, answer=["4", "4"]) == [1.0, 0.0]


def test_neighbours_with_the_same_prompt_and_columns_are_a_group(load):
    with as_trl_reward([load("first"), load("asked", weight=0.5)]) as reward:
        assert reward.__name__ == "first+asked"
        found = reward(
            prompts=["a", "a", "a", "bc", "a"],
            completions=["x", "yy", "z", "x", "x"],
            completion_ids=[[1], [1, 2], [1], [1], [1]],
            answer=["1", "1", "2", "2", "2"],
        )
        assert found == [1.5, 0.5, 1.5, 2.0, 1.5]


def test_a_foreign_function_in_a_worker_process_and_out_again():
    foreign = Path(__file__).parents[1] / "foreign" / "styles" / "foreign" / "trl_rewards.py"
    grader = load_grader("g", {"use": f"{foreign}:ground_truth_reward", "style": "trl"})
    assert grader.runs_in_worker
    with as_trl_reward(grader) as reward:
        boxed = [r"\boxed{4}", r"\boxed{5}", "4"]
        assert reward(prompts=["?"] * 3, completions=boxed, ground_truth=["4"] * 3) == [1.0, 0.0, 0.0]


def test_it_can_be_called_where_a_loop_is_running(load):
    async def main():
        with as_trl_reward(load("asked")) as reward:
            return reward(prompts=["a"], completions=["x"])

    assert asyncio.run(main()) == [1.0]


def test_too_many_faults_stop_the_training(load):
    with as_trl_reward(load("correct")) as reward, pytest.raises(GradeError, match="gone"):
        reward(prompts=["a"] * 5, completions=["x"] * 5, answer=["broken"] * 5)


def test_closing_leaves_no_thread(load):
    before = threading.active_count()
    reward = as_trl_reward(load("asked"))
    reward(prompts=["a"], completions=["x"])
    reward.close()
    reward.close()
    assert threading.active_count() == before


@pytest.mark.e2e
def test_trl_trains_with_it(load, tmp_path):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    model = Path(__file__).parents[3] / "rft" / "embedded" / "model"
    rows = [{"prompt": f"{number} + 2 =", "answer": str(number + 2)} for number in range(4)]
    seen = []
    with as_trl_reward([load("correct"), load("asked", weight=0.1)]) as reward:

        def watched(**batch):
            seen.append((batch, reward(**batch)))
            return seen[-1][1]

        trainer = trl.GRPOTrainer(
            model=str(model),
            reward_funcs=watched,
            train_dataset=datasets.Dataset.from_list(rows),
            args=trl.GRPOConfig(
                output_dir=str(tmp_path / "run"),
                per_device_train_batch_size=4,
                num_generations=2,
                max_completion_length=4,
                max_steps=1,
                use_cpu=True,
                bf16=False,
                report_to=[],
                save_strategy="no",
            ),
        )
        trainer.train()
    ((batch, rewards),) = seen
    expected = [
        float(text == answer) + 0.1 * len(prompt)
        for prompt, text, answer in zip(batch["prompts"], batch["completions"], batch["answer"], strict=True)
    ]
    assert rewards == pytest.approx(expected)
    assert trainer.state.log_history[0]["reward"] == pytest.approx(sum(expected) / 4)
