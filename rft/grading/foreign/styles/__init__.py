"""Reward functions of other systems, used unchanged: `graders.x.use=their_file.py:their_function`.

`table` lists the styles, that is how each system calls a function; `selection` chooses the style of a function;
`payloads` makes the arguments; `results` unwraps the results; `adapt` makes a grader of all four.
"""

from rft.grading.foreign.styles.adapt import adapt
from rft.grading.foreign.styles.selection import select_style
from rft.grading.foreign.styles.table import STYLES, Style

__all__ = ["STYLES", "Style", "adapt", "select_style"]
