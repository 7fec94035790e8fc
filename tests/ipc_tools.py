"""Servers of their own, and programs in C++ around them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
CORE = TESTS.parent / "core"
_numbers = itertools.count()


def fresh_name() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"


def start(name: str, **options: Any) -> subprocess.Popen:
    command = [sys.executable, str(TESTS / "echo_server.py"), name, json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(60)
    assert process.stdout
    process.stdout.close()


@contextmanager
def server(**options: Any) -> Iterator[str]:
    """A server without a device; it has to end in order when told to."""
    name = fresh_name()
    process = start(name, **options)
    try:
        yield name
        assert process.poll() is None, "the server has ended"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        end(process)


def compiled(folder: Path, source: Path, *flags: str, also: tuple[Path, ...] = ()) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    program = folder / source.stem
    command = [compiler, *flags, "-Wall", "-Wextra", "-Werror", "-pthread"]
    command += [f"-I{CORE / 'include'}", f"-I{CORE / 'src' / 'ipc'}", str(source), *map(str, also)]
    done = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(command: list[Any], timeout: float = 300, status: int = 0) -> str:
    """What a program prints; it is free of what this process preloads."""
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout if status == 0 else done.stderr
