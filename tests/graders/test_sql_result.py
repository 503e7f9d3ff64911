"""SQL result equality, on databases small enough to work the rows out by hand."""

import pytest

from graders.sql_result import SqlResult, is_ordered, is_same
from rft.grading import Status, Task, load_grader

SCHEMA = """
CREATE TABLE city (name TEXT, country TEXT, people INTEGER);
INSERT INTO city VALUES ('Bern', 'CH', 134), ('Basel', 'CH', 178), ('Graz', 'AT', 291), ('Linz', 'AT', NULL);
"""
OTHER = "CREATE TABLE city (name TEXT, country TEXT, people INTEGER); INSERT INTO city VALUES ('Oslo', 'NO', 700);"
QUERY = "SELECT country, sum(people) FROM city GROUP BY country"


def grade(answer, query=QUERY, schema=SCHEMA, **options):
    item = {"sql": {"schema": schema, "query": query}}
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")
    return SqlResult(**options).grade(answer, task)


@pytest.mark.parametrize(
    ("answer", "query", "value"),
    [
        (QUERY, QUERY, 1.0),
        ("SELECT country, sum(people) AS total FROM city GROUP BY 1 ORDER BY 2 DESC;", QUERY, 1.0),
        ("```sql\nSELECT 1\n```\nNo:\n```sql\nSELECT 'AT', 291.0 UNION SELECT 'CH', 312\n```", QUERY, 1.0),
        ("SELECT sum(people), country FROM city GROUP BY country", QUERY, 0.0),
        ("SELECT country, count(*) FROM city GROUP BY country", QUERY, 0.0),
        ("SELECT country, sum(people) || '' FROM city GROUP BY country", QUERY, 0.0),
        ("SELECT country FROM city", "SELECT DISTINCT country FROM city", 0.0),
        ("SELECT name FROM city ORDER BY name DESC", "SELECT name FROM city", 1.0),
        ("SELECT name FROM city ORDER BY name DESC", "SELECT name FROM city ORDER BY name", 0.0),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n",
         "VALUES (1), (2), (3)", 1.0),
    ],
)  # fmt: skip
def test_rows_decide(answer, query, value):
    score = grade(answer, query)
    assert (score.value, score.status) == (value, Status.OK)


def test_a_second_database_finds_rows_that_were_written_down():
    written_down = "SELECT 'AT', 291 UNION SELECT 'CH', 312"
    assert grade(written_down, schema=[SCHEMA]).value == 1.0
    assert grade(written_down, schema=[SCHEMA, OTHER]).value == 0.0
    assert grade(QUERY, schema=[SCHEMA, OTHER]).value == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "SELEC 1",
        "SELECT nothing FROM city",
        "SELECT 1; SELECT 2",
        "DELETE FROM city",
        "UPDATE city SET people = 0",
        "DROP TABLE city",
        "CREATE TABLE x (a)",
        "CREATE TEMP VIEW city AS SELECT 1",
        "PRAGMA writable_schema = 1",
        "SELECT * FROM pragma_database_list",
        "BEGIN",
        "SELECT load_extension('x')",
        "SELECT zeroblob(2000000)",
        "WITH n(i) AS (VALUES (1), (2), (3), (4), (5)) SELECT zeroblob(900000) FROM n AS a, n AS b, n AS c",
        "WITH n(i) AS (VALUES (1), (2), (3), (4), (5)) SELECT 1 FROM n a, n b, n c, n d, n e, n f",
        "SELECT 1\0",
        "x" * 30_000,
    ],
)
def test_a_query_that_fails_or_does_more_than_read(answer):
    score = grade(answer)
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT) and score.reason


@pytest.mark.parametrize("command", ["ATTACH '{}' AS x", "VACUUM INTO '{}'"])
def test_no_files(tmp_path, command):
    assert grade(command.format(tmp_path / "new")).status is Status.INVALID_OUTPUT
    assert list(tmp_path.iterdir()) == []


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "


@pytest.mark.parametrize("what", ["count(*) FROM n", "i FROM n", "max(i) FROM n ORDER BY random()"])
def test_an_endless_query_is_ended(what):
    assert grade(ENDLESS + what, seconds=0.2).status is Status.INVALID_OUTPUT


@pytest.mark.parametrize("answer", ["", "<think>SELECT 1", "```sql\n```"])
def test_no_query_is_no_answer(answer):
    assert grade(answer).status is Status.NO_ANSWER


@pytest.mark.parametrize(
    ("query", "schema", "error"),
    [
        ("SELECT name FROM nowhere", SCHEMA, "no such table"),
        ("SELECT name FROM city WHERE 0", SCHEMA, "yields no rows"),
        (QUERY, "", "lacks a schema"),
        (QUERY, "ATTACH '/tmp/x' AS y", "not authorized"),
    ],
)
def test_a_wrong_task_is_an_error(query, schema, error):
    with pytest.raises(Exception, match=error):
        grade(QUERY, query, schema)


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t order\n by a LIMIT (1)", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY (a))", False),
        ("SELECT a, row_number() OVER (ORDER BY a) FROM t", False),
        ("SELECT ' ORDER BY ( ' FROM t -- ORDER BY", False),
    ],
)
def test_where_an_order_by_counts(query, ordered):
    assert is_ordered(query) is ordered


def test_rows_are_compared_by_type():
    assert is_same([(1, None)], [(1.0, None)], False) and is_same([(0.3,)], [(0.1 + 0.2,)], False)
    for one, other in [(1, "1"), (None, ""), (b"a", "a"), (0, None), (2**53, 2**53 + 1)]:
        assert not is_same([(one,)], [(other,)], False)
    assert not is_same([(1,), (1,), (2,)], [(1,), (2,), (2,)], False)


def test_a_task_without_sql_is_skipped_and_options_are_checked():
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"sql": None}, split="train")
    assert SqlResult().grade("SELECT 1", task) is None
    with pytest.raises(ValueError, match="above 0"):
        SqlResult(seconds=0)
    assert load_grader("correct", {"use": "sql", "seconds": 2}).takes == ("completion", "task")
