"""The posts of `linkedin_voice`: their graders on values worked out by hand, and what retrieval may show."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rft.config.commands import load_training
from rft.config.retrieval.base import RetrievalConfig
from rft.embedded.examples.linkedin_voice.features import features_of
from rft.embedded.examples.linkedin_voice.graders import MAX_CHARS, Form, Original, Told, Voice, read_post
from rft.grading import load_grader
from rft.retrieval.build import open_store
from rft.retrieval.grounding import Grounding
from rft.types import Score, Status, Task
from tests.retrieval.voyage_server import VoyageServer, vector_of

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "linkedin_voice"
BODY = "We measured six harbours (twice). " * 8
POST = f"{BODY}\n\n#tides #data\n\n<!-- sources: [n01] [n02] -->"


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def task_of(row: dict[str, Any]) -> Task:
    item = {name: value for name, value in row.items() if name not in ("id", "prompt")}
    prompt = row.get("prompt", "?")
    return Task(id=row.get("id", "t"), messages=({"role": "user", "content": prompt},), item=item, split="test")


DOCUMENTS = {row["id"]: row for row in rows_of("documents")}
REQUESTS = [row for split in ("train", "validation", "test") for row in rows_of(split)]


@pytest.mark.parametrize(
    ("post", "reason"),
    [
        (POST, None),
        (f"<think>sources?</think>{POST}\n", None),
        (POST.replace("<!--", "("), "no trailer <!-- sources: [id] --> at the end"),
        (POST.replace("[n01] [n02]", ""), "no trailer <!-- sources: [id] --> at the end"),
        (f"{POST} and more", "no trailer <!-- sources: [id] --> at the end"),
        (POST.replace("#tides #data\n\n", ""), "no line of hashtags at the end of the post"),
        (POST.replace("#tides", "#a #b #c"), "4 hashtags, at most 3"),
        (POST.replace("six", "#six", 1), "hashtags, citations or comments inside the post"),
        (POST.replace("six", "six [n01]", 1), "hashtags, citations or comments inside the post"),
        (POST.replace(BODY, BODY[:34]), "5 words, not 35 to 120"),
        (POST.replace(BODY, BODY * 4), "160 words, not 35 to 120"),
        (f"Answer: {POST}", "begins with something else than the post"),
        ("", "no trailer <!-- sources: [id] --> at the end"),
    ],
)
def test_form(post: str, reason: str | None) -> None:
    score = Form().grade(post)
    assert (score.value, score.reason) == (float(reason is None), reason)


def test_features() -> None:
    features = features_of("We wait.\n\nThe sea does not (as usual). Our gauge waits, and counts!")
    assert features == {
        "opening_words": 2,
        "sentence_words": 13 / 3,
        "longest_sentence_words": 6,
        "paragraphs": 2,
        "asides": 1,
        "closing_aside": 0,
        "shouts": 1,
        "we_share": 2 / 13,
        "long_word_share": 0,
        "common_share": 6 / 13,
        "repeated_share": 0,
    }
    assert features_of(" \n") is None


def test_the_voice_of_the_house_and_another(tmp_path: Path) -> None:
    values = [Voice().grade(row["answer"]).value for row in REQUESTS]
    assert np.mean(values) > 0.95
    assert min(values) > 0.7
    attacks = [row["completion"] for row in rows_of("attacks") if row["attack"] in ("stock phrases", "facts listed")]
    assert max(Voice().grade(attack).value for attack in attacks) < 0.1
    loud = [{"completion": f"Big news! We are thrilled to announce number {number}!\n\n#a"} for number in range(3)]
    (tmp_path / "loud.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in loud))
    other = Voice(posts=str(tmp_path / "loud.jsonl"))
    assert other.grade(loud[0]["completion"]).value == 1
    assert other.grade(REQUESTS[0]["answer"]).value == 0
    assert Voice().grade("...").status == Status.NO_ANSWER
    assert Voice().grade("x" * (MAX_CHARS + 1)).status == Status.INVALID_OUTPUT


def test_the_voice_agrees_with_its_labels_on_form_and_not_on_manners() -> None:
    rows = rows_of("labelled")
    paid = [Voice().grade(row["completion"]).value >= 0.5 for row in rows]
    assert sum(row["label"] for row in rows) == 20
    assert sum(is_paid for row, is_paid in zip(rows, paid, strict=True) if row["label"]) == 19
    assert sum(is_paid for row, is_paid in zip(rows, paid, strict=True) if not row["label"]) == 12


@pytest.mark.parametrize("wrong", [{"near": 6.0}, {"near": -1.0}, {"posts": "nowhere.jsonl"}])
def test_wrong_options_of_voice(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Voice(**wrong)


@pytest.mark.parametrize(
    ("facts", "value"),
    [
        (["six"], 1.0),
        (["6", "Vessel Bay"], 0.5),
        (["6", "harbours", "Vessel Bay"], 1.0),
        (["Bay"], 0.0),
        (["data"], 0.0),  # only a hashtag
        (["n01"], 0.0),  # only the trailer
    ],
)
def test_told(facts: list[str], value: float) -> None:
    score = Told().grade(POST, task_of({"facts": facts}))
    assert score is not None
    assert score.value == pytest.approx(value)
    assert Told().grade(POST, task_of({"facts": []})) is None


def test_copies_of_other_posts_are_not_original() -> None:
    first, second = rows_of("demonstrations")[:2]
    words = read_post(first["completion"])[0].split()
    task = task_of(second)
    assert Original().grade(first["completion"], task_of(first)).value == 1  # its own post
    assert Original().grade(first["completion"], task).value == 0
    copied = Original().grade(f"tides {' '.join(words[9:21])} tides", task)
    assert copied.value == pytest.approx(1 - (12 - 7) / (20 - 7))
    assert copied.reason is not None
    assert copied.reason.startswith("12 words in a row: ")
    with pytest.raises(ValueError, match="free_words=20 must be"):
        Original(free_words=20)


def test_attacks_earn_nothing_and_the_posts_do() -> None:
    grader = load_grader("post", load_training(["experiment=linkedin_voice_smollm2"]).graders["post"])

    def reward(row: dict[str, Any], column: str) -> float:
        score: Score = grader.call(completion=row[column], task=task_of(row), rollout=None)
        assert score.value is not None, score.reason
        return score.value

    assert [row["id"] for row in rows_of("attacks") if reward(row, "completion") > 0] == []
    assert min(reward(row, "answer") for row in rows_of("audit")) > 0.9


def test_posts_are_split_by_date() -> None:
    dates = {split: [row["date"] for row in rows_of(split)] for split in ("train", "validation", "test")}
    assert max(dates["train"]) < min(dates["validation"])
    assert max(dates["validation"]) < min(dates["test"])
    for row in REQUESTS:
        assert all(DOCUMENTS[note]["date"] <= row["date"] for note in row["relevant"])
        assert DOCUMENTS[row["own_post"]]["text"] == read_post(row["answer"])[0]
    held_out = {row["own_post"] for row in [*rows_of("validation"), *rows_of("test")]}
    assert {name for name, row in DOCUMENTS.items() if row["shelf"] == "held_out"} == held_out


async def shown(config: RetrievalConfig, rows: list[dict[str, Any]]) -> list[list[str]]:
    """The ids of the passages that the prompt of each row shows."""
    store, grounding = open_store(config), Grounding(config)
    tasks = [task_of(row) for row in rows]
    queries = [grounding.query(task) for task in tasks]
    try:
        fingerprint = await store.fingerprint()
        found = await store.search(queries, grounding.num_wanted)
    finally:
        await store.close()
    grounded = [grounding.ground(*given, fingerprint) for given in zip(tasks, queries, found, strict=True)]
    return [[passage["id"] for passage in task.item["passages"]] for task in grounded]


def check_what_is_shown(rows: list[dict[str, Any]], ids: list[list[str]]) -> float:
    """Refuse own and later posts; return the share of the relevant notes that are shown."""
    for row, own in zip(rows, ids, strict=True):
        assert 1 <= len(own) <= 4
        assert row["own_post"] not in own
        assert all(DOCUMENTS[name]["shelf"] != "held_out" for name in own)
    num_found = sum(len({*own} & {*row["relevant"]}) for row, own in zip(rows, ids, strict=True))
    return num_found / sum(len(row["relevant"]) for row in rows)


def test_no_prompt_shows_its_own_post_or_a_later_one() -> None:
    retrieval = load_training(["experiment=linkedin_voice_smollm2"]).retrieval
    assert check_what_is_shown(REQUESTS, asyncio.run(shown(retrieval, REQUESTS))) == 1


def test_the_preset_of_atlas_and_voyage(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymongo", reason="pip install 'rft[mongodb]'")
    from tests.retrieval.mongodb_server import MongodbServer

    voyage = VoyageServer()
    documents = [
        {"_id": name, "text": row["text"], "shelf": row["shelf"], "embedding_model": "voyage-3.5"}
        | {"embedding": vector_of(row["text"], "document", 1024).tolist()}
        for name, row in DOCUMENTS.items()
    ]
    monkeypatch.setenv("VOYAGE_API_KEY", voyage.KEY)
    urls = [f"retrieval.embedder.url={voyage.url}", f"retrieval.rerank.url={voyage.url}"]
    retrieval = load_training(["experiment=linkedin_voice_atlas", *urls]).retrieval

    async def main() -> tuple[list[list[str]], list[dict[str, Any]]]:
        server = MongodbServer(documents)
        server.add_index("posts_vector", 1024, "shelf")
        async with server:
            monkeypatch.setenv("MONGODB_URI", server.uri())
            return await shown(retrieval, REQUESTS[-8:]), server.searches

    try:
        ids, searches = asyncio.run(main())
    finally:
        voyage.close()
    assert check_what_is_shown(REQUESTS[-8:], ids) > 0.5  # the ranking is that of the servers
    assert [search["filter"] for search in searches] == 8 * [{"$and": [{"shelf": {"$in": ["news", "posts"]}}]}]
    embedded = [body for path, body in voyage.requests if path == "embeddings"]
    assert {body["input_type"] for body in embedded} == {"query"}
    assert [text for body in embedded for text in body["input"]] == [row["topic"] for row in REQUESTS[-8:]]
    assert sum(path == "rerank" for path, _ in voyage.requests) == 8
