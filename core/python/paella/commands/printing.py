"""What commands print, and where they read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    import msgspec

    text = msgspec.json.encode(value, enc_hook=lambda number: number.item())
    say(msgspec.json.format(text, indent=2).decode())


def say_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from paella.tables import format_table

    say(format_table(header, rows))


@contextmanager
def progress(text: str) -> Iterator[None]:
    """A line that is there while something takes its time, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(text)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(f"\r{' ' * len(text)}\r")


def configuration(args: argparse.Namespace) -> Any:
    from paella.config import Config

    return Config(args.config)
