"""Grader of a contract clause: it regulates its subject by the law of one province or territory, and leaves no blanks.

No legal advice: the grader compares words. It does not know whether a clause is valid, complete or wise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer

MAX_CHARS = 4_000
"""A longer answer is no clause."""

MARKERS: Mapping[str, tuple[str, ...]] = {
    "Ontario": ("ontario", "toronto", "act, 1991", "standards act, 2000", "commerce act, 2000", "act, 2002"),
    "Quebec": ("quebec", "quebecois", "montreal", "civil code", "code of civil procedure", "act respecting", "hypothec",
               "personal and movable real rights"),
    "British Columbia": ("british columbia", "vancouver", "victoria", "personal information protection act"),
    "Alberta": ("alberta", "calgary", "edmonton", "prompt payment and construction lien act",
                "personal information protection act"),
    "Manitoba": ("manitoba", "winnipeg", "builders' liens act", "retail sales tax"),
    "Saskatchewan": ("saskatchewan", "regina", "saskatoon", "act, 1992", "security act, 1993", "documents act, 2000"),
    "Nova Scotia": ("nova scotia", "halifax", "commercial arbitration act", "labour standards code"),
    "New Brunswick": ("new brunswick", "fredericton", "moncton", "construction remedies act"),
    "Yukon": ("yukon", "whitehorse", "workers' safety and compensation act"),
    "Northwest Territories": ("northwest territories", "yellowknife", "mechanics lien act"),
    "elsewhere": ("nunavut", "newfoundland", "prince edward island", "delaware", "new york", "california", "england",
                  "state of"),
}  # fmt: skip
"""Words that place a clause in a province or territory; those of the others make it wrong."""

GENERIC = (
    r"\bapplicable (?:[a-z]+ ){0,4}(?:laws?|legislation|jurisdiction|courts?|tax(?:es)?|regulations?)\b(?! of)",
    r"\b(?:appropriate|relevant|local|competent) (?:laws?|legislation|jurisdiction|courts?(?!\.)|province|state)\b",
    r"\b(?:laws?|courts?) of (?:the|this|your|its) (?:province|jurisdiction|state|country|land)\b(?! of)",
    r"\b(?:permitted|required|provided|prescribed) by law\b",
    r"\[[^\]]*\]|_{3,}|\bx{3,}\b|\binsert\b|\bto be determined\b|\btbd\b",
)
"""Wordings of a clause that would fit anywhere, and blanks."""

SUBJECTS: Mapping[str, str] = {
    "law": r"\blaws\b.*\bgovern|\bgoverned by the laws\b",
    "courts": r"\b(?:submit|jurisdiction|brought|started)\b",
    "arbitration": r"\b(?:decided?|settled?|resolved?|determined|submit|refer)\b",
    "notice": r"\b(?:notice|amount|minimum|rights|less|least|pay)\b",
    "privacy": r"\b(?:personal information|data|consent|screens|survey)\b",
    "tax": r"\b(?:pay|charge|add|excludes?|levies|include|show)\b",
    "limitation": r"\b(?:claims?|actions?|periods?|prescription)\b",
    "lien": r"\b(?:retain|hold(?:s|ing)? back|holdback|release)\b",
    "security": r"\b(?:security interest|hypothec|regist(?:er|ered|ration))\b",
    "signature": r"\bsign(?:s|ed|ature|er|atory)?\b",
    "safety": r"\b(?:comply|compliance|fulfil|follow|satisfy|observe|hazard|prime contractor)\b",
    "goods": r"\b(?:conditions?|warrants?|fit|merchantable|sample|sell)\b",
}
"""What the sentence with the legal source says, beside it, for each kind of clause."""

SOURCE = "@"
"""Stands for a legal source in a sentence."""

_OPERATIVE = re.compile(
    r"\b(?:shall|must|may|will|is|are|has|agrees?|submits?|grants?|warrants?|apply|applies|acknowledge|accepts|keeps"
    r"|governs?|levies|permits|requires|provides|excludes?|satisfies|binds|holds|implies|gives|recognises)\b"
)
_FUNCTION_WORDS = (
    "the a an of and or to in by for under with on at as it its that this these which who where when if not no any "
    "all each every either neither both be been is are was were has have had do does than from before after until "
    "unless within without into them they their there other others such what more"
)
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_PREAMBLE = re.compile(r"\A\W*(?:it is|this is|that is|here is|here's|the answer is|sure|certainly|of course)\b")
_MODAL = re.compile(r"\b(?:shall|must|may|will)\b")
_WORDS_PER_MODAL = 7
_APART = re.compile(rf"[(,:;/-]\s*{SOURCE}")
_WORD = re.compile(r"[\w'%]+")
_SENTENCE_END = re.compile(r"(?<=[.;:])\s+|\n+")


@dataclass(frozen=True, kw_only=True)
class Clause:
    """Scores 0 to 1: the share of the required terms, for a clause that regulates its subject.

    The score is 0 if another province is named, if the clause is generic or has blanks, and if it only lists its terms:
    the sentence that names the legal source must say what the kind of clause says, and the terms must stand in prose.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    terms: str = "terms"
    """The task's column with the terms: the province or territory first, then the legal source, then figures."""
    kind: str = "kind"
    """The task's column with the kind of clause, a key of `SUBJECTS`."""
    min_words: int = 20
    """Fewest words."""
    max_words: int = 90
    """Most words."""
    max_term_share: float = 0.5
    """Largest share of the words that may belong to required terms."""
    min_function_share: float = 0.25
    """Smallest share of words such as `the`, `of` and `shall`, in the clause and around its legal source."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Check the clause; the reason names what is wrong first."""
        terms, kind = task.item.get(self.terms), str(task.item.get(self.kind))
        if not terms:
            return None
        if kind not in SUBJECTS:
            raise LookupError(f"task {task.id}: {self.kind}={kind} is none of {', '.join(SUBJECTS)}")
        answer = final_answer(completion)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        text = plain(answer)
        found = [term for term in terms if _key(term) in text]
        problem = (
            self._length_problem(text)
            or _place_problem(text, terms[0])
            or _generic_problem(text)
            or self._prose_problem(text, [_key(term) for term in terms], kind)
        )
        if problem is not None:
            return Score(value=0.0, reason=problem)
        missing = [term for term in terms if term not in found]
        return Score(value=len(found) / len(terms), reason=f"missing: {', '.join(missing)}" if missing else None)

    def _length_problem(self, text: str) -> str | None:
        words = len(_WORD.findall(text))
        if not self.min_words <= words <= self.max_words:
            return f"{words} words, not {self.min_words} to {self.max_words}"
        if _PREAMBLE.search(text):
            return "begins with something else than the clause"
        return None if re.search(r"[^.][.]\s*\Z", text) else "does not end with a sentence"

    def _prose_problem(self, text: str, terms: Sequence[str], kind: str) -> str | None:
        """Return why a text is a list of terms rather than a clause."""
        source = terms[1]
        sentences = [sentence for sentence in _SENTENCE_END.split(text) if _WORD.search(sentence)]
        with_source = [sentence.replace(source, f" {SOURCE} ") for sentence in sentences if source in sentence]
        if not with_source:
            return f"does not name its legal source, {source}"
        if any(text.count(term) > 3 for term in terms):
            return "repeats a term more than three times"
        rest = text
        for term in sorted(terms, key=len, reverse=True):
            rest = rest.replace(term, " ")
        if 1 - len(_WORD.findall(rest)) / len(_WORD.findall(text)) > self.max_term_share:
            return "consists mostly of its terms"
        if 2 * sum(_OPERATIVE.search(sentence) is not None for sentence in sentences) < len(sentences):
            return "most of its sentences regulate nothing"
        if _WORDS_PER_MODAL * len(_MODAL.findall(text)) > len(_WORD.findall(text)):
            return "is no prose: too many of shall, must, may and will"
        if not any(self._regulates(sentence, kind) for sentence in with_source):
            return f"the sentence with the legal source does not regulate its subject, {kind}"
        return None if _function_share(rest) >= self.min_function_share else "is no prose"

    def _regulates(self, sentence: str, kind: str) -> bool:
        if _APART.search(sentence):
            return False
        without_source = sentence.replace(SOURCE, " ")
        is_about = re.search(SUBJECTS[kind], without_source) is not None
        is_operative = _OPERATIVE.search(without_source) is not None
        return is_about and is_operative and _function_share(without_source) >= self.min_function_share


def plain(text: str) -> str:
    """Return a text in small letters, without accents and typographic signs, with single blanks."""
    decomposed = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
    kept = "".join(char for char in decomposed if not unicodedata.combining(char)).casefold()
    return re.sub(r"[^\S\n]+", " ", kept).strip()


def _key(term: str) -> str:
    return plain(term).removeprefix("the ")


def _function_share(text: str) -> float:
    words = _WORD.findall(text)
    return sum(word in _FUNCTION for word in words) / max(1, len(words))


def _place_problem(text: str, place: str) -> str | None:
    if _key(place) not in text:
        return f"does not name {place}"
    own = MARKERS.get(place, ())
    others = [marker for name, markers in MARKERS.items() if name != place for marker in markers if marker not in own]
    named = next((marker for marker in others if re.search(rf"\b{re.escape(marker)}\b", text)), None)
    return None if named is None else f"names another place or its law: {named}"


def _generic_problem(text: str) -> str | None:
    match = next(filter(None, (re.search(pattern, text) for pattern in GENERIC)), None)
    return None if match is None else f"generic or blank: {match[0]}"
