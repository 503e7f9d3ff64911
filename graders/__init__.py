"""The graders that come with rft: one small file each, meant to be read, copied and changed.

    exact            the answer is the text in a column
    contains         the answer contains given texts, and not everything else as well
    numeric          the answer is the number in a column, within a tolerance
    math             the answer equals the expression in a column
    multiple_choice  the answer names the right option
    pattern          the completion matches a regular expression (also called `format`)
    json_schema      the answer is JSON that a schema accepts
    json_match       the share of the fields of a JSON answer that are right
    text_similarity  how alike the answer and a text in a column are
    constraints      the share of the rules of form that the answer keeps to
    code_tests       unit tests on the code that the model wrote
    sql              the query yields the same rows as the reference
    reasoning_gym    reasoning-gym's own judgement
    length           a penalty for long completions
    repetition       a penalty for completions that repeat themselves
    composite        several graders as one: sum, mean, product, min, gate

`rft.grading.contract` says what a grader is; `rft.grading.loading.targets.BUILT_IN` gives these their names.
"""
