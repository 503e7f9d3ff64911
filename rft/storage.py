"""Folders in storage: a path, or an address that fsspec supports, such as `s3://bucket/runs` or `gs://bucket/runs`.

Neither addresses nor messages contain keys. Libraries read their keys from the environment or from their own files.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from rft.errors import OutputError, StorageError, WaitTimeout
from rft.redaction import has_url_secret, hide_in_message
from rft.waiting import within

PROBE = ".rft-can-this-be-written"
ANSWER_S = 60.0
"""Seconds allowed for a reply of the storage."""


def is_address(text: str) -> bool:
    """Whether a text is an address with a protocol instead of a path."""
    return "://" in text


def below(address: str, *names: str) -> str:
    """Return the address of a folder below another; a path becomes absolute."""
    top = address if is_address(address) else str(Path(address).expanduser().absolute())
    return "/".join([top.rstrip("/"), *names])


def address_problems(key: str, address: str) -> list[str]:
    """Return the problems of an address, one sentence each, without connecting to it.

    Args:
        key: The configuration key, such as `storage`.
        address: The value.
    """
    import fsspec
    from fsspec.utils import get_protocol

    given = f"{key}={hide_in_message(address)}"
    if has_url_secret(address):
        return [
            f"{given}: an address is written into the run folder, so it must not hold a user, an account or a key; "
            "leave them to the environment or the files where its library looks, as AWS_ACCESS_KEY_ID"
        ]
    protocol = get_protocol(address)
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return [f"{given}: there is no protocol {protocol}; give a path, s3://..., gs://... or another that fsspec has"]
    except ImportError as error:
        cause = error.__cause__
        package = cause.name if isinstance(cause, ImportError) and cause.name else protocol
        return [f"{given}: {protocol}:// needs a library that is not installed; run: pip install {package}"]
    return []


class Place:
    """A folder in storage. Files have relative paths, such as `checkpoints/checkpoint-20/model.pt`.

    Every method blocks, and raises `StorageError` when the storage refuses or cannot be reached.

    Args:
        address: A path, or an address that fsspec supports.
    """

    def __init__(self, address: str) -> None:
        self.address = below(address)

    def __str__(self) -> str:
        return self.address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self._normal == other._normal

    def __hash__(self) -> int:
        return hash(self._normal)

    @property
    def local(self) -> Path | None:
        """Local path of the folder; None if it is not on a local file system."""
        protocol, path = self._normal
        return Path(path) if protocol == "file" else None

    def files(self, folder: str = "") -> list[str]:
        """Return the files below the folder or one of its subfolders."""
        with self._asked("cannot be listed"):
            self._fs.invalidate_cache()
            paths = self._fs.find(self._path(folder) if folder else self._root)
        prefix = f"{self._root}/"
        return [name.removeprefix(prefix) for name in paths if name.startswith(prefix)]

    def holds(self, name: str) -> bool:
        """Whether a file exists."""
        with self._asked(f"cannot be asked for {name}"):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        with self._asked(f"{name} cannot be read"):
            return bytes(self._fs.cat_file(self._path(name)))

    def get(self, name: str, target: Path) -> None:
        """Copy a file to this machine, completely or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with self._asked(f"{name} cannot be read"):
            self._fs.get_file(self._path(name), str(part))
            part.replace(target)

    def put(self, file: Path, name: str) -> bool:
        """Copy a file to storage, replacing an existing one.

        Returns:
            Whether the file was copied; False if it was removed meanwhile.
        """
        with self._asked(f"{name} cannot be written"):
            try:
                if self.local is None:  # an object replaces another one atomically
                    self._fs.put_file(str(file), self._path(name))
                else:
                    part = f"{self._path(name)}.part"
                    self._fs.put_file(str(file), part)
                    os.replace(part, self._path(name))
            except FileNotFoundError:
                if file.exists():
                    raise
                return False
        return True

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._asked(f"{name} cannot be removed"):
            self._fs.rm_file(self._path(name))

    def remove_folder(self, folder: str) -> None:
        """Remove a folder with its content."""
        with self._asked(f"{folder} cannot be removed"):
            self._fs.rm(self._path(folder), recursive=True)

    def check_writable(self) -> None:
        """Write a small file and remove it again."""
        probe = f"{PROBE}-{uuid.uuid4().hex[:8]}"
        with self._asked("cannot be written"):
            self._fs.pipe_file(self._path(probe), b"yes")
            self._fs.rm_file(self._path(probe))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @cached_property
    def _fs(self) -> Any:
        import fsspec

        # Folders are created when needed; object stores have none.
        options = {"auto_mkdir": True} if self.local is not None else {}
        return fsspec.core.url_to_fs(self.address, **options)[0]

    @cached_property
    def _root(self) -> str:
        return self._normal[1]

    @cached_property
    def _normal(self) -> tuple[str, str]:
        import fsspec
        from fsspec.utils import get_protocol

        kind = fsspec.get_filesystem_class(get_protocol(self.address))
        protocol = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
        return protocol, str(kind._strip_protocol(self.address)).rstrip("/")

    @contextmanager
    def _asked(self, refusal: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # raised by the library of the protocol
            reason = " ".join(hide_in_message(str(error)).split()) or "no reason given"
            raise StorageError(f"{self.address}: {refusal}: {type(error).__name__}: {reason}") from None


def check_place(place: Place, run_folder: Path) -> None:
    """Refuse a place that cannot be written.

    Raises:
        OutputError: The place cannot be written or reached, or overlaps the run folder.
    """
    here = run_folder.resolve()
    if place.local and ((local := place.local.resolve()).is_relative_to(here) or here.is_relative_to(local)):
        problem = f"storage: {place} and the run folder {here} contain each other; choose another storage"
        raise OutputError("storage", [problem])
    try:
        within(place.check_writable, what=f"{place} to accept a file", deadline_s=ANSWER_S)
    except (StorageError, WaitTimeout) as error:
        problem = f"storage: {error}; get the right to write there, or choose another storage"
        raise OutputError("storage", [problem]) from error
