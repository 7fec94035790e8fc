"""Servers in the cache: fetched as a wheel, checked, unpacked, and checked again when used."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import msgspec

from paella.triton.releases import Release, TritonError, cache, release

BINARY = "pytriton/tritonserver/bin/tritonserver"
LIBRARIES = "nvidia_pytriton.libs/"
PYTHON_BACKEND = "libpython"  # the only part that needs it is not unpacked
MANIFEST = "manifest.json"
FETCH_S = 600


def installed(version: str) -> Path | None:
    """The folder of an unpacked server, None where there is none."""
    folder = cache() / release(version).version
    return folder if (folder / MANIFEST).is_file() else None


def server_binary(version: str) -> Path:
    """The server's program, after comparing every file with its checksum."""
    folder = installed(version)
    if folder is None:
        raise TritonError(
            f"Triton {version} is not installed: paella triton install --release {version} "
            f"unpacks it from the wheel of {release(version).package}"
        )
    _verify(folder)
    return folder / BINARY


def install(version: str, wheel: str | None = None) -> Path:
    """Unpacks the server into the cache, from `wheel` or from one that pip downloads."""
    wanted = release(version)
    there = installed(version)
    if there is not None:
        with suppress(TritonError):
            _verify(there)
            return there
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".install-", dir=cache()) as name:
        work = Path(name)
        file = Path(wheel) if wheel else _fetch(wanted, work)
        _check_wheel(file, wanted)
        tree = work / "tree"
        _unpack(file, tree)
        final = cache() / version
        shutil.rmtree(final, ignore_errors=True)
        tree.rename(final)
    return final


def _fetch(wanted: Release, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check"]
    try:
        subprocess.run(
            [*command, "--dest", str(folder), wanted.package],
            capture_output=True,
            text=True,
            check=True,
            timeout=FETCH_S,
        )
    except subprocess.CalledProcessError as e:
        lines = [line for line in e.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise TritonError(
            f"pip does not get {wanted.package}, which ships Triton {wanted.version}: "
            f"{lines[-1].removeprefix('ERROR: ')} (--wheel FILE takes it from a file)"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as e:
        raise TritonError(f"pip does not get {wanted.package}: {e}") from None
    return folder / wanted.wheel


def _check_wheel(file: Path, wanted: Release) -> None:
    if not file.is_file():
        raise TritonError(f"there is no wheel {file}")
    if sha256(file) != wanted.sha256:
        raise TritonError(
            f"{file} is not the wheel of {wanted.package}: its SHA-256 is not {wanted.sha256}"
        )


def _unpack(wheel: Path, tree: Path) -> None:
    """The program, its libraries and its licence, and what they must be."""
    hashes = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            library = name.startswith(LIBRARIES) and ".so" in name and PYTHON_BACKEND not in name
            if name == BINARY or library or name.endswith("/LICENSE"):
                archive.extract(name, tree)
                hashes[name] = sha256(tree / name)
    (tree / BINARY).chmod(0o755)
    (tree / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(hashes)))


def _verify(folder: Path) -> None:
    try:
        hashes = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, str])
        for name, expected in hashes.items():
            if sha256(folder / name) != expected:
                raise TritonError(f"{folder / name} has changed: install this Triton anew")
    except (OSError, msgspec.DecodeError) as e:
        raise TritonError(f"{folder} is no whole Triton, install it anew: {e}") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
