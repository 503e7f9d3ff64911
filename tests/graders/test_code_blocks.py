"""Which block of a completion is the program; the expected texts are written by hand."""

import pytest

from graders.code_blocks import code_blocks, defines, last_code_block, solution, stub_of

F = "def f():\n    return 1"
DOCSTRING = 'def f():\n    """Say.\n\n    ```\n    f()\n    ```\n    """\n    return 1'
FLAT_DOCSTRING = '"""Say.\n```\nf()\n```\n"""\ndef f():\n    return 1'
INDENTED = "   def f():\n       return 1"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (F, F),
        (f"```python\n{F}\n```", F),
        (f"```python\n{F}\n```\nOutput:\n```\n3\n```", F),
        (f"```python\n{F}\n```\nUse it:\n```python\nprint(f())\n```", F),
        (f"```python\n{F}\n```\nTests:\n```python\nassert f() == 1\n```\n```text\n1\n```", F),
        (f"```python\ndef f(): pass\n```\nNo, better:\n```python\n{F}\n```\n", F),
        (f"1. Do this:\n   ```python\n{INDENTED}\n   ```\n2. Done.", F),
        ("- ```python\n  def f():\n      return 1\n  ```", F),
        (f"~~~python\n{F}\n~~~", F),
        (f"~~~~\n```\n~~~~\n~~~python\n{F}\n~~~", F),
        (f"```{{.python}}\n{F}\n```", F),
        (f"```{{.python .numberLines}}\n{F}\n```", F),
        (f"``` Python title=f.py\n{F}\n```", F),
        (f"````python\n{F}\n````", F),
        (f"```python\r\n{F}\r\n```", F),
        (f"<answer>\n{F}\n</answer>", F),
        (f"<answer>\n```python\n{F}\n```\n</answer>", F),
        (f"```python\n{DOCSTRING}\n```\nSo it is.", DOCSTRING),
        (f"```python\n{FLAT_DOCSTRING}\n```\n```\n1\n```", FLAT_DOCSTRING),
        (f"```python\n{F}", F),  # sampling stopped at the fence
        ("```python\ndef f(:\n```\n```\n1\n```", "def f(:"),
        ("```python\nnever closed", "```python\nnever closed"),
        (f"```python\n{F}\n```\n```python\nnever closed", F),
        (
            "```python\nclass Solution:\n    def f(self): pass\n```\n```python\nprint(1)\n```",
            "class Solution:\n    def f(self): pass",
        ),
        ("```python\nf = lambda: 1\n```\n```python\nprint(1)\n```", "f = lambda: 1"),
        ("```python\na\n```\n```\nb\n```", "b"),  # none defines it: the last
    ],
)
def test_the_block_that_defines_the_function_is_the_program(text, code):
    assert solution(text, ["f", "Solution"]).replace("\r", "") == code


READS = "n = int(input())\nprint(n)"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"```python\n{READS}\n```\nInput:\n```\n5\n```\nOutput:\n```\n5\n```", READS),
        (f"```python\n{READS}\n```\n```bash\npython a.py\n```", READS),
        (
            "```python\nimport sys\nfor x in sys.stdin: print(x)\n```\n```python\nprint(4)\n```",
            "import sys\nfor x in sys.stdin: print(x)",
        ),
        ("```python\nprint(1)\n```\nprints\n```\nthe number one\n```", "print(1)"),
    ],
)
def test_without_a_name_the_block_that_reads_stdin_is_the_program(text, code):
    assert solution(text) == code


STUB = 'from typing import List\n\ndef f(x: List[int]) -> int:\n    """Do it."""'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (STUB, STUB),
        (f"{STUB}\n", f"{STUB}\n"),
        (f"Complete this:\n```python\n{STUB}\n```\nReply with code.", STUB),
        (f"Complete this function:\n\n{STUB}\n\nReply with code only.", f"{STUB}\n"),
        ("Write a function f that adds two numbers.", ""),
        ("Write f.\n```python\ng = 1\n```", ""),
        (f"Mend this:\n```python\n{F}\n```", ""),  # not to be completed: it would be an answer
        (f"{STUB}\n    return x", ""),
        ("import this package, please: def f(", ""),
    ],
)
def test_the_code_of_a_prompt(text, code):
    assert stub_of(text, "f") == code


def test_other_languages():
    assert last_code_block("```sql\nSELECT 1\n```\n```python\nx\n```", ("", "sql")) == "SELECT 1"
    assert last_code_block("SELECT 2", ("", "sql")) == "SELECT 2"
    assert [block.language for block in code_blocks("```text\n1\n```\n```py\nx\n```")] == ["py"]


@pytest.mark.parametrize(
    ("code", "defined"),
    [
        ("def f(): pass", True),
        ("async def f(): pass", True),
        ("class f: pass", True),
        ("f: object = 1", True),
        ("a, f = 1, 2", True),
        ("from m import g as f", True),
        ("if True:\n    def f(): pass", True),
        ("def g():\n    def f(): pass", False),
        ("def ff(): pass", False),
        ("f()", False),
        ("def f(:", True),  # broken, but the one that was meant
    ],
)
def test_what_a_program_defines(code, defined):
    assert defines(code, "f") is defined
