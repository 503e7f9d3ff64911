"""Text similarity: by hand, by graders.md's measured table, and by the libraries' own scorers on random texts."""

import asyncio
import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from rft.grading.foreign.openai_spec import load_openai, run, text_similarity
from rft.grading.foreign.openai_spec.text_similarity import METRICS


def similarity(metric, text, reference, **options):
    return run(
        {
            "grader": {
                "type": "text_similarity",
                "name": "n",
                "input": "{{sample.output_text}}",
                "reference": "{{item.reference}}",
                "evaluation_metric": metric,
            },
            "item": {"reference": reference},
            "model_sample": text,
        },
        **options,
    )


def test_the_library_of_a_metric_is_imported_by_one_thread_at_a_time(monkeypatch):
    is_held = []

    def metric(text, reference):
        is_held.append(text_similarity._IMPORTING.locked())
        return 0.5

    monkeypatch.setattr(text_similarity, "_IMPORTED", set())
    monkeypatch.setattr(text_similarity, "METRICS", {"gleu": metric})
    for _ in range(2):
        assert similarity("gleu", "a", "b")["reward"] == 0.5
    assert is_held == [True, False, False]  # once to import, then once for each pair of texts


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "text", ["Paris", "4", "a b", "\u041f\u0430\u0440\u0438\u0436", "\u5df4\u9ece", "!?", "one two three four five six"]
)
def test_equal_texts_score_1(metric, text):
    assert similarity(metric, text, text)["reward"] == 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("text", ["", " ", "Rome", "\u041b\u0438\u043e\u043d"])
def test_texts_with_nothing_in_common_score_0(metric, text):
    assert similarity(metric, text, "QQQ")["reward"] == 0.0


@pytest.mark.parametrize(
    ("metric", "text", "reference", "value"),
    [
        ("fuzzy_match", "paris", "Paris", 0.8),  # 2 * 4 / 10
        ("fuzzy_match", "The answer is Paris.", "Paris", 0.4),  # 2 * 5 / 25
        ("fuzzy_match", "Paris " * 50, "Paris", 2 * 5 / 305),
        ("bleu", "The answer is Paris.", "Paris", 0.107),
        ("bleu", "Paris " * 50, "Paris", 0.007),
        ("bleu", "fuzzy wuzzy was a bear", "fuzzy wuzzy had no hair", 0.214),
        ("gleu", "a b c d", "a b c e", 6 / 10),  # 3 + 2 + 1 + 0 of 4 + 3 + 2 + 1 n-grams
        ("gleu", "a", "a b", 1 / 3),  # 1 of the reference's 2 + 1
        ("meteor", "paris", "Paris", 1.0),
        ("meteor", "the cats sat", "the cat sat", 1 - 0.5 / 27),  # by stem; one chunk of three matches
        ("meteor", "a b", "b a", 1 - 0.5),  # two chunks of two matches
        ("rouge_1", "The answer is Paris.", "Paris", 0.4),  # P 1/4, R 1
        ("rouge_1", "paris", "Paris", 1.0),
        ("rouge_1", "Paris " * 50, "Paris", 2 / 51),
        ("rouge_2", "a b c", "a b d", 0.5),
        ("rouge_5", "a b c d e f", "a b c d e g", 0.5),
        ("rouge_5", "a", "a b c d e", 0.0),  # the completion cannot lower n
        ("rouge_5", "a b", "b", 2 / 3),  # the reference can: P 1/2, R 1
        ("rouge_l", "a x b y c", "a b c", 0.75),  # P 3/5, R 1
    ],
)
def test_values(metric, text, reference, value):
    assert similarity(metric, text, reference)["reward"] == pytest.approx(value, abs=1e-3)


def test_rouge_is_that_of_rouge_score():
    choose = random.Random(0)
    names = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_3": "rouge3", "rouge_l": "rougeL"}
    scorer = RougeScorer(list(names.values()))
    for _ in range(50):
        text, reference = (" ".join(choose.choices("abcde", k=choose.randint(3, 12))) for _ in range(2))
        expected = scorer.score(reference, text)
        for metric, name in names.items():
            assert METRICS[metric](text, reference) == pytest.approx(expected[name].fmeasure)


def flags(response):
    return [name for name, is_set in response["metadata"]["errors"].items() if is_set is True]


def test_what_cannot_be_compared():
    response = similarity("bleu", "Paris", "")
    assert (response["reward"], flags(response)) == (None, ["other_error"])
    response = similarity("bleu", "Paris", "x" * 50_001)
    assert (response["reward"], flags(response)) == (None, ["other_error"])
    response = similarity("bleu", "x" * 50_001, "Paris")
    assert (response["reward"], flags(response)) == (0.0, ["sample_parse_error"])
    response = similarity("meteor", "x " * 2_001, "Paris")
    assert (response["reward"], flags(response)) == (0.0, ["sample_parse_error"])


@pytest.mark.parametrize(
    ("vectors", "value"), [([[3, 4], [4, 3]], 0.96), ([[1, 0], [-1, 0]], 0.0), ([[1, 0], [2, 0]], 1.0)]
)
def test_cosine(server, services, vectors, value):
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    server.replies.append((200, {"object": "list", "data": data, "model": "e", "usage": usage}))
    assert similarity("cosine", "a", "b", services=services)["reward"] == pytest.approx(value)
    assert server.requests[0][2]["input"] == ["a", "b"]
    assert server.requests[0][2]["model"] == "text-embedding-3-large"


def test_cosine_without_embeddings_is_no_reward(server, services):
    server.replies.append((500, {"error": {"message": "down"}}))
    response = similarity("cosine", "a", "b", services=services)
    assert (response["reward"], flags(response)) == (None, ["model_grader_server_error"])
    assert similarity("cosine", "", "b", services=services)["reward"] == 0.0


def test_long_texts_do_not_hold_up_the_event_loop(monkeypatch):
    spec = {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "bleu"}
    grader = load_openai(spec)
    ran_in_the_loop = []

    def metric(text, reference):
        try:
            asyncio.get_running_loop()
            ran_in_the_loop.append(True)
        except RuntimeError:
            ran_in_the_loop.append(False)
        return 0.5

    monkeypatch.setitem(METRICS, "bleu", metric)
    from rft.grading.foreign.openai_spec.evaluate import evaluate
    from rft.grading.foreign.openai_spec.outcome import Case

    outcome = asyncio.run(evaluate(grader.spec, Case(sample={}, item={}, trace_id="t"), grader.services))
    assert (outcome.value, ran_in_the_loop) == (0.5, [False])
