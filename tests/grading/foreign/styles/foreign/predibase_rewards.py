"""As in Predibase's documents: a reward function with its imports inside."""


def format_reward_func(prompt: str, completion: str, example: dict[str, str]) -> float:
    import re

    # Imagine your dataset has a column named "target"
    match = re.search(r"<answer>(.*?)</answer>", completion)
    return 1.0 if match and match[1] == example["target"] and prompt == example["prompt"] else 0.0
