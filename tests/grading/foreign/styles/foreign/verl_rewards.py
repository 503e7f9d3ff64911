"""As in verl's documents: a custom reward function, and the batch form."""


def my_reward_fn(data_source, solution_str, ground_truth, extra_info=None):
    return len(solution_str) / 100


def compute_score(solution_str, ground_truth, method="strict", format_score=0.0, score=1.0):
    """The scoring function for GSM8k."""
    answer = solution_str.rpartition("#### ")[2] if "#### " in solution_str else None
    if answer is None:
        return 0
    return score if answer == ground_truth else format_score


def with_details(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    correct = data_source == "openai/gsm8k" and ground_truth in solution_str
    return {"score": 1.0 if correct else 0.0, "acc": correct, "pred": solution_str, "split": extra_info["split"]}


def batched(data_sources, solution_strs, ground_truths, extra_infos):
    return [{"score": float(s == g)} for s, g in zip(solution_strs, ground_truths)]  # noqa: B905


def pair(model_output, ground_truth, timeout_score=0):
    return float(model_output == ground_truth)
