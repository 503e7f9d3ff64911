"""A reward function as AReaL's GSM8K example writes it: `completions` is one text."""


def gsm8k_reward_fn(prompt, completions, prompt_ids, completion_ids, answer, **kwargs):
    assert len(completion_ids) == len(completions)
    return float(completions.split()[-1] == answer)
