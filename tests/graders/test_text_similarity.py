"""Text similarity: the metrics have tests of their own; here is what the grader adds."""

import pytest

from graders.text_similarity import Metric, TextSimilarity
from rft.grading import Status, Task, grader_problems, load_grader


def task(answer):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": answer}, split="train")


@pytest.mark.parametrize("metric", Metric.__args__)
def test_equal_texts_score_one(metric):
    for text in ("Paris", "It is a big city by a river."):
        assert TextSimilarity(metric=metric).grade(f"<think>no</think> {text}\n", task(text)).value == 1.0


@pytest.mark.parametrize(
    ("metric", "completion", "gold", "value"),
    [
        ("rouge_1", "a b c d", "a b c e", 0.75),
        ("rouge_l", "a c", "a b c", 0.8),
        ("fuzzy_match", "abcd", "abce", 0.75),
        ("fuzzy_match", "zzzzzzzzza", "abce", 0.0),
    ],
)
def test_values(metric, completion, gold, value):
    assert TextSimilarity(metric=metric).grade(completion, task(gold)).value == pytest.approx(value)


def test_a_little_alike_is_not_alike():
    assert TextSimilarity(metric="rouge_1").grade("a x y z", task("a b c d")).value == 0.0
    assert TextSimilarity(metric="rouge_1", zero_below=0.2).grade("a x y z", task("a b c d")).value == 0.25


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        ("", Status.NO_ANSWER),
        ("<think>Paris", Status.NO_ANSWER),
        ("Paris " * 10_000, Status.INVALID_OUTPUT),
    ],
)
def test_the_models_fault(completion, status):
    score = TextSimilarity(metric="rouge_l").grade(completion, task("Paris"))
    assert (score.value, score.status) == (0.0, status)


def test_meteor_takes_fewer_words():
    score = TextSimilarity(metric="meteor").grade("." * 2001, task("Paris"))
    assert score.status is Status.INVALID_OUTPUT


def test_references():
    grader = TextSimilarity(metric="bleu")
    assert grader.grade("x", task(None)) is None
    for gold in (" ", "x" * 60_000):
        with pytest.raises(ValueError, match="empty, or too long"):
            grader.grade("x", task(gold))


def test_problems():
    assert "zero_below=2.0" in grader_problems("g", {"use": "text_similarity", "metric": "bleu", "zero_below": 2})[0]
    assert "rouge_l" in grader_problems("g", {"use": "text_similarity", "metric": "cosine"})[0]
    assert load_grader("g", {"use": "text_similarity", "metric": "rouge_2"}).call.__self__.metric == "rouge_2"
