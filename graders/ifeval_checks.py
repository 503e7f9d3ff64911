"""The 25 instructions of IFEval, with their keys and their checks.

Source: Zhou et al., "Instruction-Following Evaluation for Large Language Models", arXiv 2311.07911, and the checkers
published with it. Three details differ: the published checkers treat keywords as regular expressions, rft as texts;
rft counts sentences and words in capitals by its own rules instead of nltk's trained models, which require a download;
and a response in an unknown language, such as one of digits only, follows no instruction about its language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from graders import counting

Keys = Mapping[str, Any]

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""The allowed constrained responses."""
RELATIONS = ("less than", "at least")
"""The relations of a count."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A kind of instruction.

    Example:
        Instruction(_title)
        Instruction(_number_of_words, {"num_words": int, "relation": str})
    """

    follows: Callable[[str, Keys], bool]
    """Whether a response follows the instruction."""
    keys: Mapping[str, type]
    """Its required keys with their types; `list` is a list of texts."""


def instruction_problems(name: object, keys: Keys) -> list[str]:
    """Return all problems of an instruction of a task.

    Args:
        name: Its identifier, such as `keywords:existence`.
        keys: Its arguments. Keys without a value are removed, because the data set has each key in each row.
    """
    if not isinstance(name, str) or name not in INSTRUCTIONS:
        return [f"{name!r} is not an instruction of IFEval; the instructions are {', '.join(INSTRUCTIONS)}"]
    given = {key: value for key, value in keys.items() if value is not None}
    required = INSTRUCTIONS[name].keys
    problems = [f"{name}: {key} is missing" for key in required if key not in given]
    problems += [
        f"{name}: unknown key {key}; the keys are {', '.join(required) or 'none'}"
        for key in given
        if key not in required
    ]
    for key, kind in required.items():
        if key in given and not _is_of(given[key], kind):
            problems.append(f"{name}: {key}={given[key]!r} is not {_KINDS[kind]}")
        elif key in given and key.endswith("relation") and given[key] not in RELATIONS:
            problems.append(f"{name}: {key}={given[key]!r} is not one of {', '.join(RELATIONS)}")
    return problems


def is_followed(name: str, keys: Keys, response: str) -> bool:
    """Whether a response follows a valid instruction."""
    return INSTRUCTIONS[name].follows(response, keys)


@cache
def language_detector() -> Callable[[str], str | None]:
    """Load langdetect; return a function that detects a text's language (ISO 639-1), or None."""
    import langdetect

    langdetect.DetectorFactory.seed = 0  # it draws random numbers

    def language_of(text: str) -> str | None:
        try:
            return str(langdetect.detect(text))
        except langdetect.LangDetectException:  # the text has no letters
            return None

    return language_of


_KINDS: Mapping[type, str] = {
    int: "a whole number of 0 or more",
    str: "a text",
    list: "a list of texts",
}


def _is_of(value: Any, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind is str:
        return isinstance(value, str) and bool(value.strip())
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(text, str) for text in value)


def _bounded(count: int, keys: Keys, number: str, relation: str = "relation") -> bool:
    return bool(count < keys[number]) if keys[relation] == "less than" else bool(count >= keys[number])


def _occurrences(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _existence(text: str, keys: Keys) -> bool:
    return all(_occurrences(keyword, text) for keyword in keys["keywords"])


def _frequency(text: str, keys: Keys) -> bool:
    return _bounded(_occurrences(keys["keyword"], text), keys, "frequency")


def _forbidden_words(text: str, keys: Keys) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in keys["forbidden_words"])


def _letter_frequency(text: str, keys: Keys) -> bool:
    return _bounded(text.lower().count(keys["letter"].strip().lower()), keys, "let_frequency", "let_relation")


def _response_language(text: str, keys: Keys) -> bool:
    return bool(language_detector()(text) == keys["language"])


def _number_sentences(text: str, keys: Keys) -> bool:
    return _bounded(counting.sentences(text), keys, "num_sentences")


def _number_paragraphs(text: str, keys: Keys) -> bool:
    """`***` separates paragraphs; only the first and the last may be empty, and are then not counted."""
    parts = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(parts) == keys["num_paragraphs"]


def _number_words(text: str, keys: Keys) -> bool:
    return _bounded(len(re.findall(r"\w+", text)), keys, "num_words")


def _nth_paragraph_first_word(text: str, keys: Keys) -> bool:
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    place = keys["nth_paragraph"]
    if count != keys["num_paragraphs"] or not 1 <= place <= count or not paragraphs[place - 1].strip():
        return False
    first = paragraphs[place - 1].split()[0].lstrip("'").lstrip('"')
    return bool(re.split(r"[.,?!'\"]", first)[0].lower() == keys["first_word"].lower())


def _number_placeholders(text: str, keys: Keys) -> bool:
    return len(re.findall(r"\[[^\n\]]*\]", text)) >= int(keys["num_placeholders"])


def _postscript(text: str, keys: Keys) -> bool:
    marker = keys["postscript_marker"].strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _number_bullet_lists(text: str, keys: Keys) -> bool:
    return bool(len(re.findall(r"^[^\S\n]*(?:\*[^*\n]|-).*$", text, re.MULTILINE)) == keys["num_bullets"])


def _constrained_response(text: str, keys: Keys) -> bool:
    return any(option in text for option in OPTIONS)


def _number_highlighted_sections(text: str, keys: Keys) -> bool:
    """Counts `*one*` and `**two**`; text between double stars counts once, empty stars do not count."""
    single = re.findall(r"\*[^\n*]*\*", text)
    double = re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(text.strip("*").strip()) for text in [*single, *double]) >= int(keys["num_highlights"])


def _multiple_sections(text: str, keys: Keys) -> bool:
    splitter = re.escape(keys["section_spliter"].strip())
    return len(re.findall(rf"{splitter}\s?\d+", text)) >= int(keys["num_sections"])


def _json_format(text: str, keys: Keys) -> bool:
    inside = re.sub(r"\A```(?:json|Json|JSON)?|```\Z", "", text.strip()).strip()
    try:
        json.loads(inside)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, keys: Keys) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, keys: Keys) -> bool:
    """Two different responses, separated by six stars."""
    parts = [part.strip() for part in text.split("******")]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _repeat_prompt(text: str, keys: Keys) -> bool:
    return text.strip().lower().startswith(keys["prompt_to_repeat"].strip().lower())


def _end_checker(text: str, keys: Keys) -> bool:
    return text.strip().strip('"').lower().endswith(keys["end_phrase"].strip().lower())


def _quotation(text: str, keys: Keys) -> bool:
    return len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"'


def _capital_word_frequency(text: str, keys: Keys) -> bool:
    capitals = [
        word for word in re.findall(r"[^\W_](?:[\w.'\u2019-]*\w)?", text) if re.split("['\u2019]", word)[0].isupper()
    ]
    return _bounded(len(capitals), keys, "capital_frequency", "capital_relation")


def _english_capital(text: str, keys: Keys) -> bool:
    return text.isupper() and language_detector()(text) == "en"


def _english_lowercase(text: str, keys: Keys) -> bool:
    return text.islower() and language_detector()(text) == "en"


def _no_comma(text: str, keys: Keys) -> bool:
    return "," not in text


INSTRUCTIONS: Mapping[str, Instruction] = {
    "keywords:existence": Instruction(_existence, {"keywords": list}),
    "keywords:frequency": Instruction(_frequency, {"keyword": str, "frequency": int, "relation": str}),
    "keywords:forbidden_words": Instruction(_forbidden_words, {"forbidden_words": list}),
    "keywords:letter_frequency": Instruction(
        _letter_frequency, {"letter": str, "let_frequency": int, "let_relation": str}
    ),
    "language:response_language": Instruction(_response_language, {"language": str}),
    "length_constraints:number_sentences": Instruction(_number_sentences, {"num_sentences": int, "relation": str}),
    "length_constraints:number_paragraphs": Instruction(_number_paragraphs, {"num_paragraphs": int}),
    "length_constraints:number_words": Instruction(_number_words, {"num_words": int, "relation": str}),
    "length_constraints:nth_paragraph_first_word": Instruction(
        _nth_paragraph_first_word, {"num_paragraphs": int, "nth_paragraph": int, "first_word": str}
    ),
    "detectable_content:number_placeholders": Instruction(_number_placeholders, {"num_placeholders": int}),
    "detectable_content:postscript": Instruction(_postscript, {"postscript_marker": str}),
    "detectable_format:number_bullet_lists": Instruction(_number_bullet_lists, {"num_bullets": int}),
    "detectable_format:constrained_response": Instruction(_constrained_response, {}),
    "detectable_format:number_highlighted_sections": Instruction(_number_highlighted_sections, {"num_highlights": int}),
    "detectable_format:multiple_sections": Instruction(
        _multiple_sections, {"section_spliter": str, "num_sections": int}
    ),
    "detectable_format:json_format": Instruction(_json_format, {}),
    "detectable_format:title": Instruction(_title, {}),
    "combination:two_responses": Instruction(_two_responses, {}),
    "combination:repeat_prompt": Instruction(_repeat_prompt, {"prompt_to_repeat": str}),
    "startend:end_checker": Instruction(_end_checker, {"end_phrase": str}),
    "startend:quotation": Instruction(_quotation, {}),
    "change_case:capital_word_frequency": Instruction(
        _capital_word_frequency, {"capital_frequency": int, "capital_relation": str}
    ),
    "change_case:english_capital": Instruction(_english_capital, {}),
    "change_case:english_lowercase": Instruction(_english_lowercase, {}),
    "punctuation:no_comma": Instruction(_no_comma, {}),
}
"""All instructions, by their identifiers in the data set."""
