"""The load generator: a client process that sends the requests of a run. `paella load`."""

from __future__ import annotations

import json
import time
from typing import Any

from paella import _core
from paella.config import resolve
from paella.core_types import EngineResult
from paella.hardware.leaving import interruptible
from paella.profiler.machine import host
from paella.reading import decode
from paella.results import RunOutput
from paella.schema import Run, RunSpec
from paella.serving.names import ServingError, address
from paella.specification import specification

PATIENCE_S = 20.0  # without an answer, while any is outstanding


def stats(server: str) -> dict[str, Any]:
    """What the server says of itself."""
    address(server)
    said: dict[str, Any] = json.loads(_core.ClientConnection(server, "block", 0).stats())
    return said


def workload(server: str, fields: dict[str, Any], config: Any) -> Run:
    """A run of this workload on what the server serves with."""
    serves = stats(server).get("serves")
    if serves is None:
        raise ServingError(f"server {server} does not say what it serves with")
    return resolve(decode(fields | serves, RunSpec, "load"), config)


def load(
    run: Run,
    server: str,
    *,
    wake: str = "poll",
    lead_us: int = 100,
    cores: tuple[int, int] = (-1, -1),
) -> RunOutput:
    """Sends the run's requests to the server, in this process."""

    def send() -> EngineResult:
        return _core.load(
            specification(run).text(),
            server=server,
            wake=wake,
            lead_us=lead_us,
            cpu=cores[0],
            receiver_cpu=cores[1],
            patience_s=PATIENCE_S,
        )

    before = stats(server)
    begun_ns = time.monotonic_ns()
    try:
        result = interruptible(send)
    except _core.Error as e:
        raise LoadError(str(e)) from None
    after = stats(server)
    counters = result.counters.as_dict() | {"elapsed_ns": time.monotonic_ns() - begun_ns}
    for key, value in after["counters"].items():  # a maximum begins anew when it has been told
        counters[key] = value if "max" in key else value - before["counters"][key]
    provenance = {
        "path": "server",
        "wake": wake,
        "server_pid": after["pid"],
        "paced": run.spec.backend == "sim",  # by the wall clock: no two runs are the same
        "host": host(),
        **({"gpu": after["gpu"]} if after.get("gpu") else {}),
    }
    return RunOutput.of(run, result, counters=counters, provenance=provenance)


class LoadError(ServingError):
    """A run that began and did not end well; nothing of it is kept."""

    status = 1
