"""The graders that come with rft: one small file each, meant to be read, copied and changed.

    exact          the answer is the text in a column
    numeric        the answer is the number in a column, within a tolerance
    pattern        the completion matches a regular expression (also called `format`)
    length         a penalty for long completions
    reasoning_gym  reasoning-gym's own judgement

`rft.grading.contract` says what a grader is; `rft.grading.loading.BUILT_IN` gives these their names.
"""
