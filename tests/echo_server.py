"""A server without a device, as a process of its own: python echo_server.py NAME '{…}'.

Its models are `empty`, answered when taken; `copy`, whose output is its input; `pair`, of two
inputs and two outputs; `big`, with the input of an image model; `mute`, which computes no output.
It takes more from folders that have a model.json. Prints `ready` when it serves.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from paella.errors import PaellaError
from paella.serving.control import ControlServer, Limits, make_sessions
from paella.serving.protocol import Model, tensors

FLOATS = ("float32", (16,), 64)
MODELS: dict[str, dict[str, Any]] = {
    "empty": {"inputs": [], "outputs": [], "instances": 1, "empty": True},
    "copy": {"inputs": [FLOATS], "outputs": [FLOATS], "instances": 4},
    "pair": {
        "inputs": [FLOATS, ("int64", (3,), 24)],
        "outputs": [FLOATS, ("int64", (3,), 24)],
        "instances": 2,
    },
    "big": {
        "inputs": [("float32", (1, 3, 224, 224), 602112)],
        "outputs": [("float32", (1, 1000), 4000)],
        "instances": 4,
    },
    "mute": {"inputs": [FLOATS], "outputs": [FLOATS], "instances": 4, "computes_outputs": False},
}


def add(sessions: Any, name: str, what: dict[str, Any]) -> tuple[int, Model]:
    inputs, outputs = tensors(what["inputs"]), tensors(what["outputs"])
    size = Model(name, 0, what["instances"], inputs, outputs)
    index = sessions.add_model(
        size.input_bytes,
        size.output_bytes,
        what["instances"],
        what.get("computes_outputs", True),
        what.get("empty", False),
    )
    return index, Model(name, sessions.wire_id(index), what["instances"], inputs, outputs)


def main(name: str, options: dict[str, Any]) -> int:
    limits = Limits(**options.pop("limits", {}))
    only = options.pop("models", list(MODELS))
    metrics = options.pop("metrics", None)
    sessions = make_sessions(limits)

    def register(model: str, folder: Path) -> tuple[int, Model]:
        file = folder / "model.json"
        if not file.exists():
            raise PaellaError(f"{file}: there is no such file")
        return add(sessions, model, json.loads(file.read_text()))

    control = ControlServer(name, sessions, register=register)
    for model in only:
        control.add(*add(sessions, model, MODELS[model]))
    if metrics is not None:
        from paella.serving.metrics import MetricsServer

        print(MetricsServer(control, metrics).port, flush=True)

    def serve() -> None:
        sessions.echo(**{"copy": True, **options})
        control.stop()

    serving = threading.Thread(target=serve)
    serving.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sessions.stop())
    print("ready", flush=True)
    control.run()
    serving.join()
    control.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
