"""What `rft data check` finds in rows, and which rows `rft data clean` would leave out."""

from typing import Any

from rft.data.hygiene.findings import Finding, find_problems
from rft.data.hygiene.rows import DataRow
from rft.data.hygiene.statistics import num_words, too_long
from rft.types import Split

FARM = "A farmer sells 12 baskets of ripe plums at the market and brings the other 30 baskets home."
BAKER = "A baker fills 4 trays with warm rolls before dawn and carries 2 of them to the old school."


def rows(split: Split, *texts: str | tuple[str, str], **columns: Any) -> list[DataRow]:
    """Rows of a split from prompts, or prompts and answers."""
    pairs = [(text, None) if isinstance(text, str) else text for text in texts]
    return [
        DataRow(
            where=f"{split}:{number}",
            split=split,
            content={"prompt": prompt, "answer": answer} | columns,
            prompt=prompt,
            answer=answer,
        )
        for number, (prompt, answer) in enumerate(pairs, start=1)
    ]


def found(name: str, *splits: list[DataRow], group_by: str | None = None) -> list[Finding]:
    """The findings of a name, without notes."""
    every = find_problems({own[0].split: own for own in splits}, group_by=group_by)
    return [one for one in every if one.name == name and one.level != "note"]


def test_a_row_that_looks_like_one_of_the_test() -> None:
    train = rows(Split.TRAIN, BAKER, FARM.upper(), FARM)
    [leak] = found("leakage", train, rows(Split.TEST, FARM.replace("12", "15"), FARM.replace("plums", "pears")))
    assert leak.level == "error"
    assert leak.message == "2 rows of train with a look-alike in test: 2 other numbers, 2 a few other words"
    assert {row.where for row in leak.drop} == {"train:2", "train:3"}
    assert leak.places[0] == "train:2 = test:1 (other numbers)"


def test_every_copy_leaves_the_earlier_splits() -> None:
    splits = [rows(split, FARM, FARM) for split in Split]
    leaks = found("leakage", *splits)
    assert [sorted(row.where for row in leak.drop) for leak in leaks] == [
        ["train:1", "train:2"],  # against validation
        ["train:1", "train:2"],  # against test
        ["validation:1", "validation:2"],
    ]
    duplicates = found("duplicates", *splits)
    assert [[row.where for row in one.drop] for one in duplicates] == [["train:2"], ["validation:2"], ["test:2"]]


def test_a_prompt_or_an_answer_inside_a_training_row() -> None:
    solution = "He first loads the cart, then drives to town, sells all of it, and counts the coins at night."
    train = rows(Split.TRAIN, f"Here is a story to continue, and it goes on for quite a while: {FARM} And then?")
    train += rows(Split.TRAIN, ("What does the man do all day long?", f"Well. {solution} That is all."))
    one, other = found("containment", train, rows(Split.TEST, (FARM, solution)))
    assert one.message == "1 prompt of test inside rows of train" and list(one.drop) == [train[0]]
    assert other.message == "1 answer of test inside rows of train" and list(other.drop) == [train[1]]


def test_equal_prompts_with_different_answers() -> None:
    [conflict] = found("conflicting answers", rows(Split.TRAIN, ("Good?", "yes"), ("Good?", "no"), ("Bad?", "no")))
    assert conflict.places == ("train:1 (yes) != train:2 (no)",)
    assert not found("conflicting answers", rows(Split.TRAIN, ("Good?", "yes"), ("Good?", " yes ")))


def test_a_conflict_between_splits_leaves_the_later_rows() -> None:
    train = rows(Split.TRAIN, ("Good?", "yes"), ("Bad?", "no"), ("Ugly?", "no"))
    test = rows(Split.TEST, ("Good?", "no"), ("Ugly?", "no"), ("Fair?", "no"), ("Fair?", "yes"))
    [conflict] = found("conflicting answers", train, test)
    assert conflict.message == "2 prompts with different answers"
    assert [row.where for row in conflict.drop] == ["train:1", "test:3", "test:4"]


def test_a_prompt_that_tells_its_answer() -> None:
    told = ("The capital is Port of Spain. What is the capital?", "Port of Spain")
    [finding] = found("answer in prompt", rows(Split.TRAIN, told, ("Red, green or blue?", "green")))
    assert finding.places == ("train:1",) and not finding.drop


def test_skewed_labels() -> None:
    [skew] = found(
        "label skew", rows(Split.TRAIN, *[(f"Row {number}", "yes" if number else "no") for number in range(10)])
    )
    assert skew.message == "90% of train have the answer 'yes': a policy that always says so scores as much"
    assert not found("label skew", rows(Split.TRAIN, *[(f"Row {number}", str(number % 2)) for number in range(10)]))


def test_personal_data() -> None:
    [finding] = found("personal data", rows(Split.TRAIN, ("Write to a@b.org or c@d.org", "+44 20 7946 0958"), "No"))
    assert finding.message == "1 row: 2 mail, 1 phone" and finding.places == ("train:1 (mail, phone)",)


def test_groups_in_two_splits() -> None:
    train = rows(Split.TRAIN, "one", customer=7) + rows(Split.TRAIN, "two", customer=8) + rows(Split.TRAIN, "three")
    shared, without = found("groups", train, rows(Split.TEST, "four", customer=8), group_by="customer")
    assert shared.message == "1 value of 'customer' in train and in test" and list(shared.drop) == [train[1]]
    assert without.message == "1 row without a value of 'customer'" and without.level == "warning"


def test_nothing_is_found_in_clean_rows() -> None:
    assert find_problems({Split.TRAIN: rows(Split.TRAIN, FARM), Split.TEST: rows(Split.TEST, BAKER)}) == []


def test_long_held_out_rows_stay() -> None:
    every = [*rows(Split.TRAIN, "a b c d", "a b c"), *rows(Split.TEST, "a b c d e", "a")]
    train, test = too_long(every, num_words, 3)
    assert train.places == ("train:1: 4 tokens are more than the context of 3",) and [*train.drop] == every[:1]
    assert test.places == ("test:1: 5 tokens are more than the context of 3",) and not test.drop
    assert test.message.startswith("1 row of test with more than 3 tokens") and "they stay, because" in test.message
