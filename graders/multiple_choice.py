r"""Multiple choice: the final answer names one option, by its letter or its text, and it is the right one.

graders:
  correct:
    use: multiple_choice
    column: answer            # "B", or 1 (counted from 0), or the option's text
    choices_column: choices   # ["Rome", "Paris", "Oslo"]

Read as B: "B", "(B)", "B) Paris", "Paris", "The answer is B.", "The best option is B", "It must be B", "Answer: **B**",
"<answer>B</answer>", "\boxed{B}". An answer that names several options scores 0; an option that it rules out ("it
can't be A") does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_uppercase
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.statements import stated_answer

_MARKS = " \t\n*_`\"'$()[]{}.,:;!"
# Bounded: twice `\W*` takes quadratic time on a text of brackets only.
_LETTER = re.compile(
    r"\W{0,20}(?:\\(?:text|mathrm|textbf)\{)?(?:option |choice )?\W{0,20}([A-Z])(?![\w'\u2019])(.*)",
    re.DOTALL | re.I,
)
_PICKED = re.compile(r"\b(?:(?:option|choice)\s+(?:is|must be|:)|it\s+(?:must|has to|should)\s+be\b)", re.IGNORECASE)
_NEXT_SENTENCE = re.compile(r"[.!]\**\s+(?=[A-Z])(?!(?:Or|And|But|No|Not|Actually|Wait|Maybe|Perhaps|Alternatively)\b)")
_RULED_OUT = re.compile(r"(?:\b(?:not|never|cannot|neither)\b|n['\u2019]t\b)[^.;!?]*", re.IGNORECASE)
_NAMED = re.compile(r"(?<![\w'\u2019])([A-Z])(?![\w'\u2019])")


@dataclass(frozen=True, kw_only=True)
class MultipleChoice:
    """Scores 1 if the answer names the right option and no other, otherwise 0.

    A task with an empty column is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "answer"
    """The task's column with the right option: its letter, its number from 0, or its text."""
    choices_column: str = "choices"
    """The task's column with the options' texts, in the order of their letters; at most 26."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Find the named option."""
        gold = reference(task, self.column)
        if gold is None:
            return None
        choices = _choices(task, self.choices_column)
        right = _right(gold, choices, task)
        answer = final_answer(completion)
        statement = stated_answer(answer)
        if statement is None:
            line = answer.rpartition("\n")[2]
            picked = list(_PICKED.finditer(line))
            statement = _first_sentence(line[picked[-1].end() :], choices) if picked else line
        else:
            statement = _first_sentence(statement, choices)
        if not statement.strip(_MARKS):
            return Score(value=0.0, status=Status.NO_ANSWER)
        letter = named_option(statement, choices)
        if letter is None:
            return Score(
                value=0.0,
                status=Status.INVALID_OUTPUT,
                answer=statement[:200],
                reason="does not name exactly one option",
            )
        return Score(value=float(letter == right), answer=letter)


def named_option(statement: str, choices: dict[str, str]) -> str | None:
    """Return the letter of the only option that a statement names; None if it names none or several."""
    plain = statement.strip(_MARKS).casefold()
    for letter, text in choices.items():
        if plain == text.strip(_MARKS).casefold():
            return letter
    match = _LETTER.match(statement)
    letter = match[1].upper() if match else ""
    if match is None or letter not in choices:
        return None
    rest = match[2].strip(_MARKS + "-\u2013")
    option = choices[letter].strip(_MARKS)
    if rest.casefold().startswith(option.casefold()):
        rest = rest[len(option) :].strip(_MARKS)
    elif rest and match[2][0].isspace() and not re.match(r"(?:because|since|as|is)\b", rest):
        return None  # "A good guess" does not name option A
    rest = _RULED_OUT.sub("", rest)
    others = [other for other in _NAMED.findall(rest) if other in choices and other != letter]
    texts = [text for key, text in choices.items() if key != letter and _is_in(text, rest)]
    return None if others or texts else letter


def _first_sentence(statement: str, choices: dict[str, str]) -> str:
    """Return a statement without later sentences, unless the next begins with an option's text, as in "B. Paris"."""
    end = _NEXT_SENTENCE.search(statement)
    if end is None or any(statement[end.end() :].casefold().startswith(text.casefold()) for text in choices.values()):
        return statement
    return statement[: end.start()]


def _is_in(text: str, rest: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text.strip())}(?!\w)", rest, re.IGNORECASE) is not None


def _choices(task: Task, column: str) -> dict[str, str]:
    texts = reference(task, column)
    if not isinstance(texts, (list, tuple)) or not 2 <= len(texts) <= len(ascii_uppercase):
        raise ValueError(f"column '{column}' of task {task.id} is not a list of 2 to 26 options: {texts!r}"[:300])
    choices = {letter: str(text) for letter, text in zip(ascii_uppercase, texts, strict=False)}
    distinct = {text.strip(_MARKS).casefold() for text in choices.values()}
    if "" in distinct or len(distinct) < len(choices):
        raise ValueError(f"an option of task {task.id} is empty or repeated: {texts!r}"[:300])
    return choices


def _right(gold: object, choices: dict[str, str], task: Task) -> str:
    """Return the right option's letter from the value of the task's column."""
    if isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < len(choices):
        return ascii_uppercase[gold]
    text = str(gold).strip()
    for letter, choice in choices.items():
        if text == choice.strip():
            return letter
    if text in choices:
        return text
    raise ValueError(f"the reference of task {task.id} is none of its {len(choices)} options: {gold!r}")
