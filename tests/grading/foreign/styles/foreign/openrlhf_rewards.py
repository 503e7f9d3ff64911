"""As in OpenRLHF's documents: `reward_func.py`, with tensors and without."""


def reward_func(queries, prompts, labels, **kwargs):
    import torch

    reward = torch.tensor([float(query == prompt + label) for query, prompt, label in zip(queries, prompts, labels)])  # noqa: B905
    return {"rewards": reward, "scores": reward, "extra_logs": {"dummy_scores": reward}}


def listed(queries, prompts, labels):
    return [float(query.endswith(label)) for query, label in zip(queries, labels)]  # noqa: B905
