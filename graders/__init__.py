"""The built-in graders, one small file each, to read, copy and change.

    exact            the answer is the text in a column
    contains         the answer contains the required texts, and few others
    numeric          the answer is the number in a column, within a tolerance
    math             the answer equals the expression in a column
    multiple_choice  the answer names the right option
    pattern          the completion matches a regular expression (also called `format`)
    json_schema      the answer is JSON that a schema accepts
    json_match       the share of the fields of a JSON answer that are right
    text_similarity  the similarity of the answer and a text in a column
    constraints      the share of the formal rules that the answer meets
    code_tests       unit tests of the model's code
    sql              the query yields the same rows as the reference
    reasoning_gym    the score of reasoning-gym
    cites            the answer cites the passages that hold it, and no others
    quotes           the quotations occur in the passages cited for them
    supported        numbers, dates and names occur in the passages
    abstains         the answer declines exactly where no passage holds it
    claims           a model decides for each claim whether a passage supports it
    length           a penalty for long completions
    repetition       a penalty for completions that repeat themselves
    environment      the score that the environment of an episode returned
    composite        combines several graders: sum, mean, product, min, gate

`rft.grading.contract` defines a grader; `rft.grading.loading.targets.BUILT_IN` maps the names to the files.
"""
