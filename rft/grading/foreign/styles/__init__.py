"""Reward functions of other systems, used unchanged: `graders.x.use=their_file.py:their_function`.

`table` lists the styles (who calls a function with what), `payloads` makes what is passed, `results` reads what comes
back, and `adapt` puts the three around a function.
"""

from rft.grading.foreign.styles.adapt import Adapted, adapt
from rft.grading.foreign.styles.table import STYLES, Style

__all__ = ["STYLES", "Adapted", "Style", "adapt"]
