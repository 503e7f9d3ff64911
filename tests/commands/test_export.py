"""`rft export`: the forms it writes, the converter that the user names, and a hub that is a stub."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy

from rft.run_folder.model_snippets import serve_adapter

Rft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter with a card and a certificate."""
    folder = tmp_path / "run" / "adapter"
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "owner/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    module = "base_model.model.q_proj"
    halves = {
        f"{module}.lora_A.weight": np.ones((2, 3), np.float32),
        f"{module}.lora_B.weight": np.ones((3, 2), np.float32),
    }
    (folder / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(halves))
    (folder / "README.md").write_text("# The card\n")
    (folder / "certificate.json").write_text("{}")
    return folder


class Hub(BaseHTTPRequestHandler):
    """The parts of the hub's API that an upload needs; every file is small enough for the commit itself."""

    files: ClassVar[dict[str, bytes]] = {}
    created: ClassVar[list[dict[str, object]]] = []
    refuses = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = f"http://{self.headers['Host']}/me/adder"
        if self.refuses:
            self._answer({"error": "You have no right to write here"}, 403)
        elif self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self._answer({"url": address, "id": "me/adder"})
        elif self.path == "/api/validate-yaml":  # of the card
            self._answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            named = [one["path"] for one in json.loads(body)["files"]]
            self._answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in named]})
        elif "/commit/main" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{address}/commit/1", "commitOid": "1", "success": True})
        else:
            self._answer({}, 404)

    def do_GET(self) -> None:
        self._answer({"sha": "0", "id": "me/adder", "siblings": []})

    def _answer(self, values: dict[str, object], status: int = 200) -> None:
        content = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine; the library takes its address."""
    kind = type("OwnHub", (Hub,), {"files": {}, "created": [], "refuses": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_test")
    yield kind
    server.shutdown()
    server.server_close()


def test_an_adapter_is_pushed_with_card_and_certificate(rft: Rft, adapter: Path, hub: type[Hub]) -> None:
    code, out, error = rft("export", str(adapter), "out=out", "forms=[adapter]", "push=me/adder")
    assert code == 0, error
    assert {*hub.files} == {"adapter_config.json", "adapter_model.safetensors", "README.md", "certificate.json"}
    assert all(hub.files[name] == (adapter / name).read_bytes() for name in hub.files)
    assert hub.created[0]["name"] == "adder" and hub.created[0]["visibility"] == "private"
    assert "pushed to http://127.0.0.1:" in out and "note:" not in out
    assert "serve adapter with vLLM: vllm serve owner/base --enable-lora --max-lora-rank 8 --lora-modules tuned=" in out


def test_a_hub_that_refuses_leaves_the_export(rft: Rft, adapter: Path, hub: type[Hub], tmp_path: Path) -> None:
    hub.refuses = True
    (adapter / "certificate.json").unlink()
    code, _, error = rft("export", str(adapter), "out=out", "forms=[adapter]", "push=me/adder")
    assert code == 1 and "push=me/adder: " in error and "remains: hf upload me/adder" in error
    assert "hf_secret" not in error
    assert (tmp_path / "out" / "adapter" / "README.md").is_file()


CONVERTER = """
import pathlib, sys
folder, flag, target = sys.argv[1:]
assert flag == "--outfile" and (pathlib.Path(folder) / "model.safetensors").is_file()
pathlib.Path(target).write_bytes({content})
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A run that trained all weights, so that nothing has to be merged."""
    folder = tmp_path / "whole run" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save({"w": np.ones(2, np.float32)}))
    return folder.parent


def converter(tmp_path: Path, content: str) -> str:
    """The words that start a converter; its name holds what a shell would take apart."""
    (tmp_path / "con vert; $HOME.py").write_text(CONVERTER.format(content=content))
    return f"export.converter='{sys.executable}' '{tmp_path}/con vert; $HOME.py'"


def test_a_converter_writes_gguf_without_a_shell(rft: Rft, model: Path, tmp_path: Path) -> None:
    code, out, error = rft(
        "export", str(model), "out=out", "forms=[merged,gguf]", converter(tmp_path, 'b"GGUF" + b"1"')
    )
    assert code == 0, error
    assert (tmp_path / "out" / "model.gguf").read_bytes() == b"GGUF1"
    assert f"serve merged with vLLM: vllm serve {tmp_path}/out/merged" in out
    assert "is not signed; rft certify signs the result" in out


def test_a_converter_that_fails_leaves_nothing(rft: Rft, model: Path, tmp_path: Path) -> None:
    words = ("export", str(model), "out=out", "forms=[merged,gguf]")
    code, _, error = rft(*words, converter(tmp_path, 'b"GGML"'))
    assert code == 74 and "is not GGUF: it does not begin with GGUF" in error
    code, _, error = rft(*words, converter(tmp_path, "1 / 0"))
    assert code == 74 and "ended with exit code 1" in error and "ZeroDivisionError" in error
    assert not (tmp_path / "out").exists()


def test_all_problems_of_an_export_together(rft: Rft, adapter: Path, model: Path, tmp_path: Path) -> None:
    code, _, error = rft(
        "export", str(adapter), "out=out", "forms=[gguf]", "converter=no-such-program x", "push=adder", "dtype=int8"
    )
    assert code == 2
    assert "forms: gguf is made from the merged model; add merged" in error
    assert "there is no program no-such-program" in error
    assert "push=adder: write <owner>/<name>" in error and "push_form=adapter is not among forms" in error
    assert "dtype" in error
    assert "converter is missing" in rft("export", str(adapter), "out=out", "forms=[merged,gguf]")[2]
    assert "trained all weights and has no adapter; write forms=[merged]" in rft("export", str(model), "out=out")[2]
    (tmp_path / "there").mkdir()
    assert "out=there is there already" in rft("export", str(adapter), "out=there", "forms=[adapter]")[2]


def test_adapters_that_vllm_does_not_serve(tmp_path: Path) -> None:
    assert "--max-lora-rank 16 " in serve_adapter("base", tmp_path, {}, rank=9)
    for config in ({"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}):
        assert serve_adapter("base", tmp_path, config, rank=9) == ""
    assert serve_adapter("base", tmp_path, {}, rank=10_000) == ""
