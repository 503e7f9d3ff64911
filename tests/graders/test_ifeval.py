"""IFEval: each instruction, followed and not, by hand; and the columns of its data set."""

import json

import pytest

from graders.ifeval import IFEval
from graders.ifeval_checks import INSTRUCTIONS
from rft.grading import Status, Task, grader_problems

ENGLISH = "the quick brown fox jumps over the lazy dog and runs into the forest"
FRENCH = "Le chat noir dort sur le canapé pendant que la pluie tombe dehors."
GERMAN = "Die schwarze Katze schläft auf dem Sofa, während es draußen regnet."
KANNADA = "ನಮಸ್ಕಾರ, ನೀವು ಹೇಗಿದ್ದೀರಿ"

CASES = [
    ("keywords:existence", {"keywords": ["fox", "DOG"]}, [ENGLISH, "dogs and foxes"], ["a fox", "dog"]),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, ["banal"], ["cat"]),
    ("keywords:frequency", {"keyword": "a.b", "frequency": 1, "relation": "less than"}, ["acb"], ["a.b"]),
    ("keywords:forbidden_words", {"forbidden_words": ["fox"]}, ["foxes"], ["The Fox."]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "at least"}, ["eE"], ["e"]),
    ("language:response_language", {"language": "fr"}, [FRENCH], [GERMAN, ENGLISH, "12345"]),
    ("language:response_language", {"language": "kn"}, [KANNADA], [FRENCH]),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ["It costs 3.14 dollars at www.example.com today.", "Mr. Smith paid."],
        ["One. Two."],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "*** a *** b ***"],
        ["a", "a***\n***b"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, ["a b c", "a-b c"], ["a b"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        ['a\n\n"So, it is."'],
        ["a\n\nSome", "so", "a\n\nb\n\nso"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] [b]"], ["[a] [b"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["a\np. s. b", "P.S. a"], ["PS a"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["a\nP. P. S b"], ["P.S. a"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n- b", "  * a\n* b"], ["* a", "** a\n* b"]),
    ("detectable_format:constrained_response", {}, ["My answer is no."], ["No.", "my answer is no."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* **b**"], ["*a*", "*a* ** **"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1 a SECTION 2 b"],
        ["SECTION 1 a", "Section 1 Section 2"],
    ),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```json\n[1]\n```"], ["a", 'So: {"a": 1}']),
    ("detectable_format:title", {}, ["<<a>> b"], ["<< >> b", "<a>"]),
    ("combination:two_responses", {}, ["a\n******\nb"], ["a", "a******a", "a******b******c", "a************b"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, [" say it. Now."], ["Now: say it."]),
    ("startend:end_checker", {"end_phrase": "The end."}, ["a. the end. ", 'a. "The End."'], ["The end. Not."]),
    ("startend:quotation", {}, [' "a" '], ['"a', "a"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["The U.S. and NASA's plan", "WELL-KNOWN TEXT"],
        ["Only NASA"],
    ),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, FRENCH.upper()]),
    ("change_case:english_lowercase", {}, [ENGLISH], [ENGLISH.title(), FRENCH.lower()]),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
]


def task(**item):
    return Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")


@pytest.mark.parametrize(
    ("name", "keys", "followed", "broken"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_instructions(name, keys, followed, broken):
    grader = IFEval(instructions=({"id": name, **keys},))
    for text in followed:
        assert grader.grade(text, task()).value == 1.0, text
    for text in broken:
        assert grader.grade(text, task()).value == 0.0, text


def test_there_are_25_and_each_has_a_case():
    assert len(INSTRUCTIONS) == 25
    assert {name for name, *_ in CASES} == set(INSTRUCTIONS)


ROW = {
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    # The data set has every key in every row.
    "kwargs": [{"num_words": None, "relation": None}, {"num_words": 2, "relation": "at least", "language": None}],
}


@pytest.mark.parametrize("as_text", [False, True])
def test_the_columns_of_the_data_set(as_text):
    row = {name: json.dumps(column) if as_text else column for name, column in ROW.items()}
    score = IFEval().grade("<think>a, b</think>one, two", task(**row))
    assert (score.value, score.reason) == (0.5, "not followed: punctuation:no_comma")
    assert IFEval(level="prompt").grade("one, two", task(**row)).value == 0.0
    assert IFEval(level="prompt").grade("one two", task(**row)).value == 1.0


def test_a_task_without_instructions_is_skipped():
    assert IFEval().grade("a", task(instruction_id_list=[], kwargs=[])) is None


@pytest.mark.parametrize("completion", ["", "...", "<think>yes"])
def test_nothing_follows_nothing(completion):
    score = IFEval().grade(completion, task(**ROW))
    assert (score.value, score.status) == (0.0, Status.NO_ANSWER)


@pytest.mark.parametrize(
    ("instruction", "problem"),
    [
        (
            {"id": "punctuation:no_commas"},
            "'punctuation:no_commas' is not an instruction of IFEval; the instructions are keywords:",
        ),
        ({"id": "startend:quotation", "letter": "a"}, "startend:quotation: unknown key letter; the keys are none"),
        ({"id": "keywords:existence"}, "keywords:existence: keywords is missing"),
        ({"id": "keywords:existence", "keywords": "a"}, "keywords='a' is not a list of texts"),
        (
            {"id": "length_constraints:number_words", "num_words": "5", "relation": "at most"},
            "num_words='5' is not a whole number of 0 or more",
        ),
        (
            {"id": "length_constraints:number_words", "num_words": 5, "relation": "at most"},
            "relation='at most' is not one of less than, at least",
        ),
    ],
)
def test_what_is_wrong_with_an_instruction_is_said_at_load(instruction, problem):
    (found,) = grader_problems("g", {"use": "ifeval", "instructions": [instruction]})
    assert problem in found


def test_a_row_that_is_wrong_is_the_rows_fault():
    with pytest.raises(ValueError, match="must be two lists of the same length"):
        IFEval().grade("a", task(instruction_id_list=["startend:quotation"], kwargs=[]))
    with pytest.raises(ValueError, match="task t: keywords:existence: keywords is missing"):
        IFEval().grade("a", task(instruction_id_list=["keywords:existence"], kwargs=[{}]))
