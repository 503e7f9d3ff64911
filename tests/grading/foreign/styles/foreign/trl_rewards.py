"""As in TRL's documents on GRPO: custom reward functions, in the standard and in the chat form."""

import re


def reward_func(completions, **kwargs):
    """Reward function that gives higher scores to longer completions."""
    return [float(len(completion)) for completion in completions]


def format_reward_func(completions, **kwargs):
    """Reward function that checks if the completion has a specific format."""
    pattern = r"^<think>.*?</think><answer>.*?</answer>$"
    completion_contents = [completion[0]["content"] for completion in completions]
    matches = [re.match(pattern, content) for content in completion_contents]
    return [1.0 if match else 0.0 for match in matches]


def ground_truth_reward(completions, ground_truth, **kwargs):
    # Regular expression to capture content inside \boxed{}
    matches = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
    contents = [match.group(1) if match else "" for match in matches]
    # Reward 1 if the content is the same as the ground truth, 0 otherwise
    return [1.0 if c == gt else 0.0 for c, gt in zip(contents, ground_truth)]  # noqa: B905


def math_reward_func(prompts, completions, task, **kwargs):
    """Returns None for the rows of other tasks, as in the documents' multi-task example."""
    rewards = []
    for _prompt, completion, t in zip(prompts, completions, task):  # noqa: B905
        rewards.append((1.0 if "4" in completion else -1.0) if t == "math" else None)
    return rewards


async def async_reward_func(prompts, completions, **kwargs):
    return [1.0 if prompt in completion else 0.0 for prompt, completion in zip(prompts, completions)]  # noqa: B905


def token_count(completion_ids, log_metric, **kwargs):
    log_metric("tokens", sum(map(len, completion_ids)))
    return [float(len(ids)) for ids in completion_ids]


def short(completion_ids, **kwargs):
    return [float(len(ids) < 10) for ids in completion_ids]
