"""Functions of one text, and those whose system cannot be told."""


def plain(text):
    return len(text)


def nobody(alpha, beta):
    return 0.0


class Dataset:
    """As reasoning-gym's data sets."""

    def score_answer(self, answer, entry):
        return 1.0 if answer == entry["answer"] else len(entry["answer"]) / max(len(answer), 1)


dataset = Dataset()
