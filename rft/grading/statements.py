r"""Finds the stated answer of a text: in a `\boxed{}`, in an `<answer>` tag, or after words such as "the answer is"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"-?[0-9][0-9,.]*[0-9]|-?\w")
_SPACING = r"(?:[\s$]|\\[()\[\],;! ]|\\q?quad(?![A-Za-z]))*"
_BETWEEN_BOXES = re.compile(rf"{_SPACING}(?:,|;|,?{_SPACING}(?:\\text\{{)?\s*(?:and|or)\s*\}}?){_SPACING}")
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_TAG_END = re.compile(r"</answer>|\Z", re.IGNORECASE)
_COPULA = r"(?:is|are|was|equals|must be|should be|would be|will be|comes (?:out )?to)\b"
_ANSWER = re.compile(
    rf"(?<![^\W_])answers?(?:\s+(?:to|for|of)\s+[^.:\n]{{1,60}}?)?[\W_]{{0,5}}?(?:\b{_COPULA}|[:=\uff1a])\s*:?"
    r"|(?:\u7b54\u6848|\u7b54\u3048|\u89e3\u7b54|\u6b63\u89e3|\uc815\ub2f5|\ub2f5|"
    r"\u0627\u0644\u0625?\u062c\u0627\u0628\u0629|\u0627\u0644\u062c\u0648\u0627\u0628|\u0909\u0924\u094d\u0924\u0930|"
    r"(?<!\w)(?:r\u00e9ponse|respuesta|resposta|risposta|antwort|\u043e\u0442\u0432\u0435\u0442))"
    r"[\W_]{0,5}?(?:\b(?:est|es|\u00e9|\u00e8|ist)\b|[:=\uff1a]|\u662f|\u4e3a|\u70ba|\u306f|\uc740|\ub294|\u0647\u064a|\u0647\u0648|\u0939\u0948)\s*:?"
    r"|####"
    r"|^[^\w\n]{0,10}(?:the +)?(?:final +)?answer[^\w\n]{0,10}$",
    re.IGNORECASE | re.MULTILINE,
)
"""English, Chinese, Japanese, Korean, Arabic, Hindi, French, Spanish, Portuguese, Italian, German, Russian."""
_MARKS = (
    "answer", "####", "\u7b54", "\u6b63\u89e3", "\ub2f5", "\u0625\u062c\u0627\u0628\u0629",
    "\u0627\u062c\u0627\u0628\u0629", "\u0627\u0644\u062c\u0648\u0627\u0628", "\u0909\u0924\u094d\u0924\u0930",
    "r\u00e9ponse", "respuesta", "resposta", "risposta", "antwort", "\u043e\u0442\u0432\u0435\u0442",
)  # fmt: skip
"""Every match contains one of these; a plain search spares most texts the pattern."""
MAX_LEAD_CHARS = 40
"""Number of characters before its mark at which a match may begin."""
_REMARK = re.compile(r"\s*(?:correct|right|wrong|incorrect|below|above|found|shown)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A place where a text states its answer."""

    kind: Literal["box", "tag", "words"]
    """The kind of the mark."""
    start: int
    """Beginning of the mark; for words, beginning of the answer."""
    end: int
    """End of the statement; for words, end of the text."""
    text: str | None
    r"""The stated answer; None for an unclosed `\boxed{`."""


def stated(text: str, *, words: re.Pattern[str] = _ANSWER) -> Statement | None:
    r"""Return the place where a text states its answer; None if it marks no answer.

    The last `\boxed{}` counts; otherwise the last `<answer>` tag; otherwise the text after the last "answer is",
    "answer:" or "####". Boxes joined by "and", "or" or a comma are one answer.
    """
    return _last_box(text) or _last_tag(text) or _last_words(text, words)


def stated_answer(text: str) -> str | None:
    """Return the answer that a text marks; None if it marks none. After words, the answer is the rest of the line."""
    statement = stated(text)
    if statement is None or statement.kind != "words" or statement.text is None:
        return None if statement is None else statement.text
    return statement.text.strip().partition("\n")[0].strip()


def or_labelled(labels: str) -> re.Pattern[str]:
    """Return the pattern of words that mark an answer, extended by a regular expression for further labels."""
    return re.compile(f"{_ANSWER.pattern}|{labels}", _ANSWER.flags)


def _last_box(text: str) -> Statement | None:
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start, content, end = boxes[-1].start(), *_content(text, boxes[-1].end())
    for box in reversed(boxes[:-1]):
        earlier, earlier_end = _content(text, box.end())
        if earlier is None or content is None or not _BETWEEN_BOXES.fullmatch(text, earlier_end, start):
            break
        start, content = box.start(), f"{earlier}, {content}"
    return Statement("box", start, end, content)


def _content(text: str, start: int) -> tuple[str | None, int]:
    r"""Return the content of a `\boxed` whose content begins at a place, and its end."""
    if text[start : start + 1] != "{":
        token = _TOKEN.match(text, start)
        return (token[0], token.end()) if token else (None, start)
    depth = 0
    for match in _BRACE.finditer(text, start):
        depth += (match[0] == "{") - (match[0] == "}")
        if not depth:
            return text[start + 1 : match.start()].strip(), match.end()
    return None, len(text)


def _last_tag(text: str) -> Statement | None:
    tags = list(_TAG.finditer(text))
    if not tags:
        return None
    start = tags[-1].end()
    end = _TAG_END.search(text, start)
    assert end is not None  # an unclosed box ends with the text
    return Statement("tag", tags[-1].start(), end.end(), text[start : end.start()].strip())


def _last_words(text: str, words: re.Pattern[str]) -> Statement | None:
    first = 0
    if words is _ANSWER:
        lowered = text.lower()
        places = [place for mark in _MARKS if (place := lowered.find(mark)) >= 0]
        if not places:
            return None
        first = max(0, min(places) - MAX_LEAD_CHARS)
    ends = [match.end() for match in words.finditer(text, first) if not _REMARK.match(text, match.end())]
    return Statement("words", ends[-1], len(text), text[ends[-1] :]) if ends else None
