"""The grader of disturbed runs, which marks the moment `grading`."""

import fault_plan


def digits(completion: str) -> float:
    """Return the share of digits in a completion: different for many completions, and the same each time."""
    fault_plan.reach("grading", "grader")
    return sum(character.isdigit() for character in completion) / max(len(completion), 1)
