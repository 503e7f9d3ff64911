"""A rubric function beside its environment's parser."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import verifiers as vf  # noqa: F401 - the import declares the system


class LastWord:
    def parse_answer(self, completion):
        return completion[-1]["content"].split()[-1]


parser = LastWord()


def parsed_answer(parser, completion, answer):
    return float(parser.parse_answer(completion) == answer)
