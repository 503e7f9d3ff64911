"""Outcome reward models as ms-swift's documents write them: classes with a __call__."""


class ORM:
    def __init__(self, args=None, **kwargs):
        self.args = args


class Exact(ORM):
    def __call__(self, completions, solution, **kwargs):
        return [float(completion == right) for completion, right in zip(completions, solution, strict=True)]


class Overlong:
    def __init__(self, soft_max_length):
        self.soft_max_length = soft_max_length

    def __call__(self, completions, **kwargs):
        return [-1.0 if len(completion) > self.soft_max_length else 0.0 for completion in completions]


class NotCallable:
    def score(self, text):
        return 1.0
