"""Reward functions that come with TRL; the first judges with math-verify."""

from trl.rewards import accuracy_reward, get_repetition_penalty_reward, think_format_reward

repetition = get_repetition_penalty_reward(ngram_size=2, max_penalty=-1.0)
__all__ = ["accuracy_reward", "repetition", "think_format_reward"]
