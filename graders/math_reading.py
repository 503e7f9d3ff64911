r"""Reads the answer of a completion and the reference of a task, for the math grader.

The first of these places that exists decides: the last `\boxed{}`; the last `<answer>` tag; the text after the last
"answer is", "answer:", "####" or "A:"; the last line or sentence with a formula or a number. A formula may have several
lines. Within a sentence, "is 9 for $n=3$" states 9, and `$x$ is 9` states 9.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass

from rft.grading.denial import is_denied
from rft.grading.notation import FUNCTIONS, GROUP, canonical, tidy
from rft.grading.statements import Statement, or_labelled, stated

TAIL_CHARS = 10_000
"""If nothing marks the answer, formulas are searched in this number of characters at the end."""
MAX_JSON_CHARS = 2_000
"""A longer completion is not parsed as a JSON object."""
MAX_WORDS = 8
"""Maximum number of words of an answer in words."""

_MASK = "\ue000"
_WORDS = or_labelled(r"^[ \t>*_-]{0,5}A[*_]{0,2}:")
FORMULA = re.compile(
    r"(?<![\\$])\$\$(?P<display>[^$]{1,2000})\$\$"
    r"|(?<![\\$])\$(?P<inline>(?:\\.|[^$\\]){1,1000}?)\$(?![0-9])"
    r"|\\\((?P<round>.{1,1000}?)\\\)|\\\[(?P<square>.{1,2000}?)\\\]"
    r"|\\begin\{(?P<name>align|equation|gather|multline)(?P<star>\*?)\}(?P<block>.{1,2000}?)\\end\{(?P=name)(?P=star)\}",
    re.DOTALL,
)
_BLANK_LINE = re.compile(r"\n\s*\n")
_DIGITS = r"(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = (
    rf"-?[$\u20ac\u00a3]?-?{_DIGITS}(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?"
    rf"(?: ?/ ?{_DIGITS})?"
)
_LATEX = (
    rf"-?[0-9.]*\\(?:[dtc]?frac\s*{GROUP}\s*{GROUP}|sqrt(?:\[[^\]\n]*\])?\s*{GROUP}|pi(?![a-z])"
    r"|begin\{(?:[a-zA-Z]*matrix|cases|array)\}[^\n]{1,500}?\\end\{\w+\})"
)
_TERM = rf"(?:{_LATEX}|{_NUMBER})"
_CANDIDATE = re.compile(
    rf"{_MASK}+|(?<![A-Za-z0-9_.^\u00c0-\u024f])(?<!\^\{{){_TERM}(?:\s?[-+*/^\u00d7\u00f7]\s?{_TERM}|{_LATEX})*(?![0-9])"
)
_SUFFIX = re.compile(
    r"[*_`\s]*(?:(?P<percent>\\?%|(?:per ?cent|pct)\b)|(?P<scale>hundred|thousand|million|billion|trillion)\b"
    r"|(?P<more>minus|plus|times|divided|multiplied|over|squared|cubed|factorial|dozen|less than|more than|to the)\b)",
    re.IGNORECASE,
)
_LONE_BACKSLASH = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Za-z]")
_FENCE_LINE = re.compile(r"^```\w*$", re.MULTILINE)
_DOUBT = re.compile(r"[\s*_]*(?:[?\uff1f]|,?\s*\bor\b)", re.IGNORECASE)
_JOINT = re.compile(r"[\s*_]*(?:,|;|,?\s*\b(?:and|or)\b)[\s*_]*", re.IGNORECASE)
_LEAD = re.compile(
    r"[\W_]*(?:\b(?:approximately|about|around|exactly|just|only|simply|therefore|thus|indeed|then|a|the|total|of|sum"
    r"|equal|to|given|by)\b[\W_]*){0,5}",
    re.IGNORECASE,
)
_COPULA = re.compile(
    r"(?:\b(?:is|are|was|were|equals?|be)|=)[\s*_]*(?:equal to |about |approximately )?$", re.IGNORECASE
)
_QUALIFIER = re.compile(
    r"[^\d,;]{0,20}?\b(?:for|when|where|whenever|if|at|given|with|as)\b(?!.*\b(?:so|thus|total|therefore|hence|which|and)\b)",
    re.IGNORECASE | re.DOTALL,
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f\u061f\u0964])")
_MATHEMATICAL = re.compile(r"[0-9\\]|^\W*[A-Za-z]\W*$|[A-Za-z)]\s*[-+*/^=]\s*[(A-Za-z]")
_NAME = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\(\s*[a-z]\s*\))?'?")
_COMMAND = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}(?:\{[^{}]*\})?|\\(?:text\w*|math(?:rm|bf)|mbox|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORD = re.compile(
    rf"(?<![A-Za-z])(?!(?:{FUNCTIONS})[xyz]?(?![A-Za-z]))"
    r"(?:(?<!\*)[A-Za-z]{3,}|[A-Za-z]{4,}|the|for|are|has|per|but|not|its|was|is|to|of|at|in|it|so|we|he|my|if|as|by|no|be"
    r"|do|an|on)(?![A-Za-z])"
)
"""Two or three letters after a number are a product of variables (`5abc`), unless they are a word."""
_FOREIGN = re.compile(r"[^\W\d_A-Za-z\u0370-\u03ff\u2100-\u214f]")
_TEXT = re.compile(r"\(?[A-Za-z]\)?|[A-Za-z][A-Za-z'\u2019-]*(?: [A-Za-z][A-Za-z'\u2019-]*){0,7}")
_SHORT_WORDS = {"yes", "no", "odd", "all", "one", "two", "six", "ten", "max", "min", "dne", "none"}


_WORDS_AT_END = re.compile(r"\b(?:is|are|was|were|be)\s+(?:an?\s+|the\s+)?((?:\\\w+\{)?[\w'\u2019 -]{1,60}\}?)[.!*$]*$")


class UnreadableReference(ValueError):
    """A reference that can be read only in part."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of a task."""

    text: str
    """The reference in canonical notation."""
    is_words: bool
    """Whether it consists of words (`even`, `Evelyn`, `(C)`), which are compared as text."""


def read_reference(text: str) -> Reference:
    r"""Return the reference in a text: the whole text, or its marked answer.

    Raises:
        UnreadableReference: The text is empty, its answer is not closed, or only a part of its prose is mathematics.
    """
    if not text.strip():
        raise UnreadableReference("it is an empty text")
    whole = tidy(text).strip()
    statement = stated(whole, words=_WORDS)
    if statement is not None:
        whole = _content_of(whole, statement) or ""
    formula = FORMULA.fullmatch(whole.rstrip(". "))
    content = (
        formula_content(formula) if formula else FORMULA.sub(lambda match: formula_content(match), whole)
    ).strip()
    words = _wording(content)
    if words is not None:
        return Reference(words, is_words=True)
    spelled = canonical(content)
    if not spelled or not re.search(r"\w|\\", spelled) or _is_unbalanced(spelled):
        raise UnreadableReference(f"it holds no complete answer: {text[-80:]!r}")
    if is_prose(spelled) and not re.fullmatch("[a-z]{3}", spelled):
        raise UnreadableReference(
            f"it is prose, of which only a part could be read as mathematics: {text[-80:]!r}; "
            r"leave nothing but the answer, or mark it with \boxed{}"
        )
    return Reference(spelled, is_words=False)


def read_answer(text: str, *, in_percent: bool = False) -> str | None:
    r"""Return the answer of a completion as LaTeX; None if it gives no answer.

    Args:
        text: The completion.
        in_percent: Whether a percent sign after a `\boxed{}` belongs to the answer.

    Example:
        read_answer("so x = 4.\nThe answer is $\frac{1}{2}$.") is r"\frac{1}{2}"
    """
    text = tidy(_json_answer(text) or text)
    statement = stated(text, words=_WORDS)
    if statement is None:
        return _closing(_Masked(text[-TAIL_CHARS:]))
    if statement.text is None or is_denied(text, statement.start, statement.end, boxed=statement.kind == "box"):
        return None
    if statement.kind == "box":
        return (_with_percent(statement.text, text[statement.end :]) if in_percent else statement.text) or None
    return _of_statement(_Masked(statement.text[:TAIL_CHARS]))


def read_words(text: str) -> str | None:
    """Return an answer in words: the stated answer, otherwise the last line if it has only a few words."""
    text = _FENCE_LINE.sub("", _json_answer(text) or text)
    statement = stated(text, words=_WORDS)
    if statement is not None:
        if statement.text is None or is_denied(text, statement.start, boxed=statement.kind == "box"):
            return None
        return _wording(statement.text.strip("*_ \n").partition("\n")[0], may_be_letter=True)
    line = text.strip().rpartition("\n")[2]
    ending = _WORDS_AT_END.search(line)
    displayed = [words for match in FORMULA.finditer(text[-TAIL_CHARS:]) if (words := _wording(formula_content(match)))]
    if displayed:
        return displayed[-1]
    return (_wording(ending[1]) if ending else None) or _wording(line, may_be_letter=True)


def is_prose(text: str) -> bool:
    """Whether a text has words in any script, apart from function names and LaTeX text."""
    bare = _COMMAND.sub(" ", text)
    return _WORD.search(bare) is not None or _FOREIGN.search(bare) is not None


class _Masked:
    """A text with masked formulas, so that sentences around them can be separated."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.formulas: dict[int, str] = {}
        pieces, position = [], 0
        for match in FORMULA.finditer(text):
            content = formula_content(match)
            inline = match["inline"] or match["round"]
            if is_prose(content) or (inline and _BLANK_LINE.search(inline)) or not content.strip():
                continue
            self.formulas[match.start()] = content.strip().rstrip(".,;")
            pieces += [text[position : match.start()], _MASK * (match.end() - match.start())]
            position = match.end()
        self.masked = "".join([*pieces, text[position:]])

    def candidates(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """Return formulas and numbers between two places, with their places; variable names only as a last resort."""
        candidates = []
        for match in _CANDIDATE.finditer(self.masked, start, end):
            formula = self.formulas.get(match.start())
            if match[0][0] == _MASK and (formula is None or formula[:1] in "^_"):
                continue
            candidates.append((match.start(), match.end(), match[0].rstrip(",") if formula is None else formula))
        return [candidate for candidate in candidates if not _NAME.fullmatch(candidate[2])] or candidates


def _content_of(text: str, statement: Statement) -> str | None:
    """Return the answer of a reference: the content of a box or tag, or the line after words."""
    if statement.kind != "words" or statement.text is None:
        return statement.text
    rest = _Masked(statement.text.strip())
    return rest.text[: len(rest.masked.partition("\n")[0])].strip("*_ .")


def _of_statement(text: _Masked) -> str | None:
    """Return the answer in the text after words such as "the answer is", or in a tag."""
    start = len(text.masked) - len(text.masked.lstrip(" \t\n*_:>`\"'"))
    end = text.masked.find("\n", start)
    end = len(text.masked) if end < 0 else end
    line = text.masked[start:end].rstrip(" \t*_`\"'.,;")
    if line.endswith("}") and _is_unbalanced(line):  # of a JSON object
        line = line.rstrip(" }\"'")
    if not line:
        return None
    if _MASK not in line and not is_prose(_JOINT.sub(",", line)):
        return line
    candidates = text.candidates(start, end)
    if not candidates:
        return line if _wording(line) else None
    first = candidates[0]
    if _LEAD.fullmatch(text.masked, start, first[0]):
        return _extended(text, candidates, 0)
    for sentence_start, sentence_end in _sentences(text.masked, start, end):
        if candidates := text.candidates(sentence_start, sentence_end):
            return _of_sentence(text, candidates, sentence_end)
    return None


def _closing(text: _Masked) -> str | None:
    """Return the answer of an unmarked text: its last line if that is mathematics, or its last sentence with any."""
    end = len(text.masked)
    while end >= 0:
        start = text.masked.rfind("\n", 0, end) + 1
        line = text.masked[start:end].strip("*_`#> \t")
        if _MASK not in line and _MATHEMATICAL.search(line):
            bare = line.rstrip(".,; ")
            if not is_prose(_JOINT.sub(",", bare)):
                return bare or None
        for sentence_start, sentence_end in reversed(_sentences(text.masked, start, end)):
            is_question = text.masked[sentence_start:sentence_end].rstrip("* \t").endswith(("?", "\uff1f"))
            if not is_question and (candidates := text.candidates(sentence_start, sentence_end)):
                return _of_sentence(text, candidates, sentence_end)
        end = start - 1
    return None


def _of_sentence(text: _Masked, candidates: list[tuple[int, int, str]], end: int) -> str | None:
    """Return the last formula or number, or the one between "is" and "when", "for" or "if"."""
    for number in range(len(candidates) - 2, -1, -1):
        start, stop, _ = candidates[number]
        if _COPULA.search(text.masked, max(0, start - 40), start) and _QUALIFIER.match(text.masked, stop, end):
            return _extended(text, candidates, number)
    return _extended(text, candidates, len(candidates) - 1)


def _extended(text: _Masked, candidates: list[tuple[int, int, str]], number: int) -> str | None:
    """Return a candidate with those joined by "and", "or" or a comma, and a following percent sign or "million"."""
    first = last = number
    while last + 1 < len(candidates) and _JOINT.fullmatch(text.masked, candidates[last][1], candidates[last + 1][0]):
        last += 1
    while first > 0 and _JOINT.fullmatch(text.masked, candidates[first - 1][1], candidates[first][0]):
        first -= 1
    start, end = candidates[first][0], candidates[last][1]
    if is_denied(text.masked, start, end) or _DOUBT.match(text.masked, end):
        return None
    answer = ", ".join(candidate for _, _, candidate in candidates[first : last + 1])
    suffix = _SUFFIX.match(text.masked, end)
    if suffix is None:
        return answer
    return None if suffix["more"] else f"{answer}\\%" if suffix["percent"] else f"{answer} {suffix['scale'].lower()}"


def _json_answer(text: str) -> str | None:
    r"""Return the `answer` of a completion that is a JSON object; its LaTeX has doubled backslashes."""
    bare = text.strip()
    if len(bare) > MAX_JSON_CHARS or bare[:1] != "{" or bare[-1:] != "}" or _LONE_BACKSLASH.search(bare):
        return None
    try:
        answer = json.loads(bare).get("answer")
    except (ValueError, RecursionError):
        return None
    return None if answer is None else str(answer)


def _with_percent(answer: str, rest: str) -> str:
    """Return an answer with the percent sign after its mark."""
    return f"{answer}\\%" if answer and re.match(r"[\s$]*(?:\\?%|(?:per ?cent|pct)\b)", rest) else answer


def _sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    ends = [start, *(match.end() for match in _SENTENCE_END.finditer(text, start, end)), end]
    return [(first, second) for first, second in itertools.pairwise(ends) if first < second]


def formula_content(formula: re.Match[str]) -> str:
    r"""Return the content of a formula; for aligned rows, the result in the last row."""
    content = next(
        formula[name] for name in ("display", "inline", "round", "square", "block") if formula[name] is not None
    )
    content = re.sub(r"\\(?:begin|end)\{(?:align|aligned|gather|gathered|split)\*?\}", "", content)
    if "&" not in content or "\\begin" in content:
        return content
    rows = [row for row in content.split("\\\\") if row.strip()]
    return rows[-1].rpartition("=")[2].replace("&", "") if rows else content


def _wording(text: str, *, may_be_letter: bool = False) -> str | None:
    r"""Return an answer in words as plain text; None for any other answer. A letter is a variable by default."""
    plain = re.sub(r"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    plain = " ".join(plain.strip("$*_`\"'.,!:; ").split())
    if not _TEXT.fullmatch(plain) or len(plain.split()) > MAX_WORDS:
        return None
    bare = plain.strip("()")
    is_option = len(bare) == 1 and (may_be_letter or plain != bare or (text.strip("$ .") != bare and bare.isupper()))
    is_word = (
        bare.casefold() in _SHORT_WORDS or (len(bare) > 3 and is_prose(bare)) or (len(bare) > 2 and bare.istitle())
    )
    return bare if is_option or is_word else None


def _is_unbalanced(text: str) -> bool:
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth < 0:
            return True
    return depth != 0 or bool(re.search(r"\\(?:frac|boxed)\{?$", text))
