"""A live view of a server: paella top."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from paella.serving.client import connect
from paella.tables import format_table

_MODELS = ("model", "instances", "waiting", "in flight", "req/s", "done", "failed", "p50 ms", "p99")
_CLIENTS = ("client pid", "req/s", "requests", "refused", "memory MB")


def top(name: str, *, interval_s: float = 1.0, once: bool = False, as_json: bool = False) -> None:
    """Prints until interrupted; once on request. Latencies are since the server began."""
    with connect(name) as server:
        before, now = None, server.stats()
        if once or as_json:
            print(json.dumps(now, indent=1) if as_json else render(now, None))
            return
        while True:
            screen = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
            print(f"{screen}{render(now, before)}", flush=True)
            time.sleep(interval_s)
            before, now = now, server.stats()


def render(now: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Rates are of the time between two looks, or since the server began."""
    seconds = now["uptime_s"] - (before["uptime_s"] if before else 0)
    head = f"{now['server']}, process {now['pid']}, up {now['uptime_s']:.0f} s"
    head += f", {len(now['clients'])} clients"
    old = {m["name"]: m for m in before["models"]} if before else {}
    models = []
    for m in now["models"]:
        rate = (m["finished"] - old.get(m["name"], {}).get("finished", 0)) / max(seconds, 1e-9)
        latency = [None if m[q] is None else m[q] / 1e3 for q in ("p50_us", "p99_us")]
        counts = (m["instances"], m["waiting"], m["in_flight"], rate, m["finished"], m["failed"])
        models.append((m["name"], *counts, *latency))
    old = {(c["pid"], c["id"]): c for c in before["clients"]} if before else {}
    clients = []
    for c in now["clients"]:
        seen = old.get((c["pid"], c["id"]), {}).get("answered", 0)
        rate = (c["answered"] - seen) / max(seconds, 1e-9)
        memory = c["memory_bytes"] / 1e6
        clients.append((str(c["pid"]), rate, c["taken"], c["refused"], memory))
    parts = [head, "", format_table(_MODELS, models)]
    if clients:
        parts += ["", format_table(_CLIENTS, clients)]
    return "\n".join(parts)
