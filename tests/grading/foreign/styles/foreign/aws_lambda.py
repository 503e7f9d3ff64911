"""As in AWS's documents on reinforcement fine-tuning of Nova: a list of samples; and the other page's one sample."""

from dataclasses import asdict, dataclass


@dataclass
class RewardOutput:
    """Reward service output."""

    id: str
    aggregate_reward_score: float


def lambda_handler(event, context):
    return lambda_grader(event)


def lambda_grader(samples):
    scores = []
    for sample in samples:
        idx = sample["id"]
        ground_truth = sample.get("metadata", {}).get("reference_answer")
        last_message = sample["messages"][-1]
        assert last_message["role"] == "assistant", "Last message is not from assistant"
        scores.append(RewardOutput(id=idx, aggregate_reward_score=float(last_message["content"] == ground_truth)))
    return [asdict(score) for score in scores]


def single_handler(event, context):
    score = float(event["messages"][-1]["content"] == event["reference_answer"])
    metrics = [{"name": "accuracy", "value": score, "type": "Reward"}]
    return {"id": event["id"], "aggregate_reward_score": score, "metrics_list": metrics}
