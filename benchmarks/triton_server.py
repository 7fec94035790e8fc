"""What the path through Triton costs, and how near the modelled Triton comes to the real one.

cost  an empty model, served by the real server: latency there and back, the client's and the
      server's own time, and how late the client is, over ways to send tensors and rates
fit   the constants of the modelled system (request_us in config/systems.yaml) from the empty model,
      and the model's error against the real server with the paced simulated GPU behind it

Comparisons on a GPU, of instance counts, tensors and launches, and with other systems:
benchmarks/systems.py with variants, as in half=Triton:server.instances=0.5
"""

import argparse
import sys

import numpy as np
from ending import ending
from msgspec.structs import replace

from paella import simulation
from paella.config import Config, resolve
from paella.hardware.settings import Hardware
from paella.schema import RequestPath, RunSpec
from paella.statistics import latency_us, percentile, throughput_rps
from paella.tables import format_table
from paella.triton import run as triton

COST = (
    *("release", "tensors", "connections", "req/s", "p50 us", "p99 us", "to backend us", "back us"),
    *("client us", "late p50 us", "late p99 us", "server us"),
)
FIT = ("load", "req/s", "of", "mean ms", "p50 ms", "p99 ms", "disturbed")


def make_run(arguments, system="Triton", backend="paced", iat_us=1000.0, seed=1, **overrides):
    spec = RunSpec(
        system=system,
        backend=backend,
        device=arguments.device,
        mix=arguments.mix,
        arrival="exponential" if iat_us else "batch",
        iat_us=iat_us,
        jobs=arguments.jobs,
        seed=seed,
        rescale=bool(iat_us),
        overrides=overrides,
    )
    return resolve(spec, Config(arguments.config))


# ---- cost


def cost_row(arguments, release, tensors, connections, rate):
    settings = {
        "server.release": release,
        "server.tensors": tensors,
        "server.connections": str(connections),
    }
    run = make_run(arguments, iat_us=1e6 / rate if rate else 0.0, **settings)
    output = triton.run(run, Hardware(cores=arguments.cores), execute="empty")
    there_and_back = np.sort((output.finished_ns - output.submitted_ns) / 1e3)
    server, client = output.counters["server"], output.counters["client"]
    late = client["late_us"]
    return (
        *(release, tensors, connections, throughput_rps(output)),
        *(percentile(there_and_back, q) for q in (0.5, 0.99)),
        *(server["to_backend_us"]["p50"], server["to_client_us"]["p50"]),
        *(client["own_us_per_request"], late.get("p50"), late.get("p99")),
        server["cpu_us_per_request"],
    )


def cost(arguments):
    rows = [
        cost_row(arguments, release, tensors, connections, rate)
        for release in arguments.releases
        for tensors in ("shared", "in-band")
        for connections in arguments.connections
        for rate in (*arguments.rates, 0)  # 0: all at once
    ]
    print(f"An empty model, {arguments.mix}, {arguments.jobs} requests; at last all due at once")
    print(format_table(COST, rows))


# ---- fit


def measured_path(arguments):
    """A request's way to the backend and back, of an empty model that is not busy, in us."""
    run = make_run(arguments, iat_us=1e6 / middle(arguments.rates))
    output = triton.run(run, Hardware(cores=arguments.cores), execute="empty")
    there = float(np.median(output.started_ns - output.due_ns)) / 1e3
    return RequestPath(latency=there, response=output.counters["server"]["to_client_us"]["p50"])


def middle(values):
    return values[len(values) // 2]


def modelled(run, path):
    spec = replace(run.spec, backend="sim")
    return simulation.run(replace(run, spec=spec, system=replace(run.system, request_us=path)))


def waking(path, real, model):
    """The path with what the empty model does not have: threads that wait for a GPU, and wake."""
    missing = float(np.median(latency_us(real)) - np.median(latency_us(model)))
    return replace(path, response=max(0.0, path.response + missing))


def fit(arguments):
    path = measured_path(arguments)
    print(f"empty model: {path.latency:.0f} us to the backend, {path.response:.0f} us back")
    runs = [make_run(arguments, iat_us=1e6 / rate) for rate in arguments.rates]
    real = [triton.run(run, Hardware(cores=arguments.cores)) for run in runs]
    path = waking(path, middle(real), modelled(middle(runs), path))
    print(f"request_us: {{latency: {path.latency:.0f}, response: {path.response:.0f}}}")
    rows, errors = [], []
    for rate, run, output in zip(arguments.rates, runs, real, strict=True):
        both = {"real server": output, "model": modelled(run, path)}
        values = {name: statistics_of(one) for name, one in both.items()}
        for name, one in both.items():
            disturbed = "; ".join(one.provenance.get("disturbed", []))
            rows.append((rate, throughput_rps(one), name, *values[name], disturbed))
        error = [100 * (b / a - 1) for a, b in zip(*values.values(), strict=True)]
        rows.append((rate, None, "error", *(f"{e:+.0f} %" for e in error), ""))
        errors.append([abs(e) for e in error])
    print(format_table(FIT, rows))
    medians = zip(("mean", "p50", "p99"), np.median(errors, axis=0), strict=True)
    print("median error over the loads:", ", ".join(f"{name} {e:.0f} %" for name, e in medians))


def statistics_of(output):
    """Mean, median and p99 in ms."""
    ordered = np.sort(latency_us(output)) / 1e3
    return [float(ordered.mean()), *(percentile(ordered, q) for q in (0.5, 0.99))]


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("what", choices=("cost", "fit"))
    add("--releases", type=lambda text: text.split(","), default="2.33.0", help="(2.33.0)")
    add("--rates", type=numbers, default="200,1000,2000", help="req/s (200,1000,2000)")
    add("--connections", type=numbers, default="1,4", help="of the client (1,4)")
    add("--jobs", type=int, default=2000, help="(2000)")
    add("--device", default="h100", help="(h100)")
    add("--mix", default="fig11", help="(fig11)")
    add("--cores", help="that the client's may be one of, as in 2,3")
    add("--config", metavar="DIR", help="configuration folder")
    return parser.parse_args(argv)


def numbers(text):
    return [int(n) for n in text.split(",")]


def main(argv=None):
    def work():
        arguments = parse(argv)
        cost(arguments) if arguments.what == "cost" else fit(arguments)
        return 0

    return ending("triton", work)


if __name__ == "__main__":
    sys.exit(main())
