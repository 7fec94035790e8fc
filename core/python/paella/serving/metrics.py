"""A server's numbers for Prometheus, over HTTP on the loopback interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from paella.errors import PaellaError
from paella.serving.control import ControlServer
from paella.serving.names import ServingError
from paella.serving.statistics import bounds_ns

_FIRST_NS, _LAST_NS = 16_000, 70_000_000_000  # of the histogram's bounds: powers of two between
_COUNTERS = {
    "taken": "Requests taken from clients.",
    "finished": "Jobs that ended well.",
    "failed": "Jobs that ended without being served.",
}
_GAUGES = {
    "waiting": "Jobs that wait for an instance of their model.",
    "in_flight": "Jobs that hold an instance of their model.",
    "instances": "Instances of the model.",
}


def text(control: ControlServer) -> str:
    """In the text format of Prometheus, version 0.0.4."""
    return "\n".join([*_lines(control), ""])


def _lines(control: ControlServer) -> Iterator[str]:
    stats = control.stats()
    server = _quoted(stats["server"])
    yield from _head("up_seconds", "gauge", "Since the server began.")
    yield f"paella_up_seconds{{server={server}}} {stats['uptime_s']:.3f}"
    yield from _head("clients", "gauge", "Processes that are connected.")
    yield f"paella_clients{{server={server}}} {len(stats['clients'])}"
    yield from _head("client_memory_bytes", "gauge", "Memory shared with clients.")
    memory = sum(c["memory_bytes"] for c in stats["clients"])
    yield f"paella_client_memory_bytes{{server={server}}} {memory}"
    for names, kind in ((_COUNTERS, "counter"), (_GAUGES, "gauge")):
        for name, about in names.items():
            metric = f"jobs_{name}_total" if kind == "counter" else f"jobs_{name}"
            metric = "model_instances" if name == "instances" else metric
            yield from _head(metric, kind, about)
            for m in stats["models"]:
                labels = f"server={server},model={_quoted(m['name'])}"
                yield f"paella_{metric}{{{labels}}} {m[name]}"
    yield from _histogram(server, control.latency_counts())


def _histogram(server: str, latencies: dict[str, tuple[Any, int]]) -> Iterator[str]:
    name = "latency_seconds"
    yield from _head(name, "histogram", "From a request taken to its answer.")
    bounds = bounds_ns()
    chosen = [
        i
        for i, bound in enumerate(bounds)
        if _FIRST_NS <= bound <= _LAST_NS and bound & (bound - 1) == 0
    ]
    for model, (counts, sum_ns) in latencies.items():
        labels = f"server={server},model={_quoted(model)}"
        below = np.cumsum(counts)
        for i in chosen:
            yield f'paella_{name}_bucket{{{labels},le="{bounds[i] * 1e-9:g}"}} {below[i]}'
        yield f'paella_{name}_bucket{{{labels},le="+Inf"}} {below[-1]}'
        yield f"paella_{name}_sum{{{labels}}} {sum_ns * 1e-9:.9g}"
        yield f"paella_{name}_count{{{labels}}} {below[-1]}"


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP paella_{name} {about}", f"# TYPE paella_{name} {kind}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


class MetricsServer:
    """Serves /metrics on 127.0.0.1 by a thread of its own; port 0 is any free one."""

    def __init__(self, control: ControlServer, port: int):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                try:
                    body = text(control).encode()
                except PaellaError as e:  # a device that has failed, or hangs
                    self.send_error(503, explain=str(e))
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as e:
            raise ServingError(f"no metrics on port {port}: {e}") from None
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
