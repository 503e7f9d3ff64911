"""The files that travel with an environment to another node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.episodes import user_code as module
from rft.episodes.user_code import UserCode, on_node, user_code, variables_of
from rft.errors import UsageError
from rft.retrieval.bm25 import make_postings
from rft.retrieval.index_folder import DOCUMENTS, MANIFEST, POSTINGS, VECTORS, pack_index, write_index

FILES = {
    "project/my_env.py": "import words, json\nfrom games.chess import board\n",
    "project/words.py": "import more",
    "project/more.py": "import words",
    "project/other.py": "",
    "project/games/chess.py": "",
    "project/games/__init__.py": "",
    "project/server.py": "",
    "project/texts/a.txt": "a",
    "project/texts/__pycache__/b.pyc": "",
    "tools/pack/__init__.py": "",
    "tools/pack/search.py": "from .near import find",
    "tools/pack/near.py": "",
    "tools/beside.py": "",
}

INDEX = (DOCUMENTS, MANIFEST, POSTINGS, VECTORS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the working directory and another one beside it."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def make_index(folder: Path, *, embedder: dict[str, str]) -> None:
    """Make an index of one passage."""
    vectors, postings = np.ones((1, 2), np.float32), make_postings(["a"])
    documents = [{"id": "1", "text": "a", "metadata": {}}]
    write_index(folder, *pack_index(documents, vectors, postings, model="m", embedder=embedder, source="a.jsonl"))


def test_an_environment_travels_with_the_modules_that_it_imports(project: Path) -> None:
    code = user_code(EnvironmentConfig(use="my_env.py:guess", files=("texts",)), {})
    names = ["games/__init__.py", "games/chess.py", "more.py", "my_env.py", "texts/a.txt", "words.py"]
    assert (sorted(code.files), code.working_folder) == (names, ".")
    there = code.write(project / "node")
    assert there == project / "node" / "code" / code.sha256
    assert (there / "texts" / "a.txt").read_text() == "a"
    assert sorted(file.relative_to(there).as_posix() for file in there.rglob("*") if file.is_file()) == names


def test_tools_travel_wherever_they_lie(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_index(Path("index"), embedder={"kind": "hashing"})
    tools = {
        "search": ToolConfig(use=f"{project}/tools/pack/search.py:search"),
        "sum": ToolConfig(use="calculator"),
        "served": ToolConfig(mcp="python server.py --port 1"),
        "remote": ToolConfig(mcp="https://example.org/mcp", bearer_env="TOKEN"),
        "found": ToolConfig(documents=f"{project}/project/texts/a.txt"),
        "kept": ToolConfig(store={"kind": "local", "documents": f"{project}/project/words.py", "search": "words"}),
        "indexed": ToolConfig(store={"kind": "local", "index": "index"}),
        "shipped": ToolConfig(documents="embedded:faq/documents"),
        "stored": ToolConfig(store={"kind": "http", "url": "http://a", "api_key_env": "SEARCH_KEY"}),
    }
    code = user_code(EnvironmentConfig(), tools)
    pack = ["tools/pack/__init__.py", "tools/pack/near.py", "tools/pack/search.py"]
    searched = [f"project/{name}" for name in ("texts/a.txt", "words.py")]
    searched += [f"project/index/{name}" for name in INDEX]
    assert sorted(code.files) == sorted(["project/server.py", *searched, *pack])
    assert code.working_folder == "project"
    first = {"use": None, "tools": {name: tool.model_dump() for name, tool in tools.items()}}
    uses = {name: entry["use"] for name, entry in on_node(first)["tools"].items()}
    others = dict.fromkeys(("served", "remote", "found", "kept", "indexed", "shipped", "stored"))
    assert uses == {"search": "../tools/pack/search.py:search", "sum": "calculator", **others}
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setenv("SEARCH_KEY", "other")
    assert variables_of(tools) == {"TOKEN": "secret", "SEARCH_KEY": "other"}
    documents = {name: entry["documents"] for name, entry in on_node(first)["tools"].items()}
    assert (documents["found"], documents["shipped"]) == ("texts/a.txt", "embedded:faq/documents")
    stores = {name: entry["store"] for name, entry in on_node(first)["tools"].items()}
    assert stores["kept"] == {"kind": "local", "documents": "words.py", "search": "words"}
    assert (stores["indexed"], stores["stored"]) == ({"kind": "local", "index": "index"}, tools["stored"].store)
    there = code.write(project / "node")
    assert (there / "../tools/pack/search.py").is_file()


def test_the_sentence_model_of_a_store_travels(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "remembered"):
        Path("models", name).mkdir(parents=True)
        Path("models", name, "config.json").write_text("{}")
    make_index(Path("near"), embedder={"kind": "folder", "path": "models/remembered"})
    make_index(Path("far"), embedder={"kind": "folder", "path": "/models/shared"})
    embedder = {"kind": "folder", "path": f"{project}/project/models/kept", "query_prefix": "query: "}
    tools = {
        "kept": ToolConfig(store={"kind": "local", "documents": "words.py", "embedder": embedder}),
        "near": ToolConfig(index="near"),
        "far": ToolConfig(index="far"),
    }
    models = ["models/kept/config.json", "models/remembered/config.json"]
    code = user_code(EnvironmentConfig(), tools)
    indexes = [f"{index}/{name}" for index in ("far", "near") for name in INDEX]
    assert sorted(code.files) == sorted([*indexes, *models, "words.py"])
    first = {"use": None, "tools": {name: tool.model_dump() for name, tool in tools.items()}}
    store = on_node(first)["tools"]["kept"]["store"]
    assert store["embedder"] == {"kind": "folder", "path": "models/kept", "query_prefix": "query: "}


def test_a_tool_whose_index_is_none(project: Path) -> None:
    with pytest.raises(UsageError, match=r"games holds no index \(no manifest.json\)"):
        user_code(EnvironmentConfig(), {"indexed": ToolConfig(store={"kind": "local", "index": "games"})})


def test_the_name_of_the_folder_depends_on_names_and_contents() -> None:
    codes = [
        UserCode({"a.py": b"1", "b.py": b"2"}, "."),
        UserCode({"a.py": b"12", "b.py": b""}, "."),
        UserCode({"a.py": b"1", "c.py": b"2"}, "."),
        UserCode({"a.py": b"1", "b.py": b"2"}, "w"),
    ]
    assert len({code.sha256 for code in codes}) == 4
    assert UserCode({"b.py": b"2", "a.py": b"1"}, ".").sha256 == codes[0].sha256


def test_files_that_are_too_large(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 20)
    with pytest.raises(UsageError, match="the files for other nodes have 0 MiB, and may have 0; name fewer, or"):
        user_code(EnvironmentConfig(use="my_env.py:guess"), {})
