"""A function that makes a reward function, as TRL and open-r1 have them."""


def get_length_reward(max_chars, penalty=-1.0):
    if max_chars < 1:
        raise ValueError("max_chars must be positive")

    def length_reward(completions, **kwargs):
        return [1.0 if len(completion) <= max_chars else penalty for completion in completions]

    return length_reward
