"""Files of the package, and output files, which appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paella.errors import ResultError


def package_file(name: str) -> Path:
    """The file or folder `name` of the package.

    An editable install has two folders: that of the sources, and that of what is built.
    """
    import paella

    found = (Path(folder) / name for folder in paella.__path__)
    return next((path for path in found if path.exists()), Path(__file__).with_name(name))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name to write to; it becomes `path` if the block succeeds, and goes if not."""
    path = Path(path)
    temporary = _beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as e:
        raise ResultError(f"cannot write {path}: {e.strerror or e}") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """ResultError if `path` could not be written; leaves nothing behind."""
    path = Path(path)
    if path.is_dir():
        raise ResultError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise ResultError(f"cannot write {path}: the folder {path.parent} does not exist")
    temporary = _beside(path)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as e:
        raise ResultError(f"cannot write {path}: {e.strerror}") from None
