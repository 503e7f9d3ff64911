"""As in Google's documents: a code execution scorer gets ProtoJSON."""


def evaluate(example, response) -> float:
    response_str = response.get("parts", [])[0]["text"]
    references = example.get("references", {})
    if response_str == references.get("concise_answer"):
        return 3.0
    assert example["contents"][-1]["parts"][0]["text"]
    return -1.0 if example["systemInstruction"]["parts"][0]["text"] == "Be brief." else 0.0
