"""As in OpenAI's documents: a python grader's source."""


def grade(sample, item) -> float:
    output_text = sample["output_text"]
    assert sample["choices"][0]["message"]["content"] == output_text
    return 1.0 if output_text == item["reference"] else 0.0
