"""What the engine itself costs the serving thread per dispatched unit, without the driver's calls.

The whole path of a run on a GPU, from a client's request to its answer, with 141 jobs of the
eight-model mix in flight, over a driver without a GPU (tests/fake_cuda.cpp): a thread that ends one
operation at a time. Counted are the turns of the serving loop in which a unit was dispatched or
told something, less the driver's calls and the comparison of outputs. Needs a C++ compiler and two
cores that nothing else uses.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

JOBS_IN_FLIGHT = 141
VARIANTS = [
    ("Paella", {}),
    ("Paella, a word per kernel", {"notify": "unit"}),
    ("Paella-MS-kbk", {}),
    ("Paella-MS-jbj", {}),
    ("Paella-seg", {}),
    ("Paella-seg, all on the GPU", {"admission": "{name: none}"}),
    *(
        (f"kernel by kernel, {policy}", {"policy": f"{{name: {policy}}}"})
        for policy in ("fifo", "round-robin", "sjf", "edf", "ageing", "srpt")
    ),
]
BY_KERNEL = {"unit": "kernel", "launch": "kernels", "notify": "unit", "admission": "{name: none}"}


def fake_driver(folder):
    library = Path(folder) / "libcuda.so.1"
    source = Path(__file__).parents[1] / "tests" / "fake_cuda.cpp"
    compiler = os.environ.get("CXX", "c++")
    subprocess.run(
        [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", "-o", library, source], check=True
    )
    return str(library)


def fake_plan(model):
    """As many kernels as the model, with as many blocks, on memories of a few bytes."""
    count = len(model["kernels"])

    def launch(i):
        source = ("input0", 0) if i == 0 else ("arena", (i + 1) % 2 * 256)
        target = ("output0", 0) if i == count - 1 else ("arena", i % 2 * 256)
        return {
            "symbol": "step",
            "grid": (model["kernels"][i][1], 1, 1),
            "block": (32, 1, 1),
            "dynamic_smem": 0,
            "args": [source, ("weights", 0), target],
        }

    return {
        "name": model["name"],
        "plain": b"kernel step 3 plain",
        "instrumented": b"kernel step 3 instrumented",
        "kernels": [launch(i) for i in range(count)],
        "weights": bytes(16),
        "arena_bytes": 512,
        "inputs": [64],
        "outputs": [("output0", 0, model["output_bytes"])],
    }


def specification(label, overrides, jobs):
    from paella import simulation
    from paella.config import resolve
    from paella.schema import RunSpec

    system = label.split(",")[0]
    if system == "kernel by kernel":
        system, overrides = "Paella-seg", BY_KERNEL | overrides
    run = resolve(RunSpec(system, jobs=jobs, iat_us=0, cap=JOBS_IN_FLIGHT, overrides=overrides))
    cores = sorted(os.sched_getaffinity(0))
    here = {"cpu": cores[-1], "watcher_cpu": -1, "start_at_ns": 0, "watchdog_s": 20.0}
    return simulation.specification(run) | here


def measure(arguments):
    from paella import _core

    specs = {
        label: specification(label, overrides, arguments.jobs)
        for label, overrides in VARIANTS
        if arguments.only in label
    }
    first = next(iter(specs.values()))
    engine = _core.CudaEngine(
        [fake_plan(m) for m in first["models"]],
        {"device": 0, "partition_sms": 0, "instances": first["instances"], "seed": 1},
    )
    costs = {label: [] for label in specs}
    counts = {}
    for _ in range(arguments.repetitions):
        for label, spec in specs.items():
            counters = engine.run(spec)["counters"]
            costs[label].append(counters["decision_ns_per_dispatch"])
            counts[label] = counters["dispatches"]
    engine.close()
    print(
        f"ns per unit with {JOBS_IN_FLIGHT} jobs in flight: median [least, most] of "
        f"{arguments.repetitions} runs of {arguments.jobs} jobs"
    )
    for label, values in costs.items():
        spread = f"[{min(values):.0f}, {max(values):.0f}]"
        print(f"{label:32}{counts[label]:>9} units{statistics.median(values):>8.0f}  {spread}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7, help="runs of each row (7)")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of each run (1000)")
    parser.add_argument(
        "--pace-ns", type=int, default=1000, help="rest between two operations (1000)"
    )
    parser.add_argument("--only", default="", help="rows whose names contain this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAELLA_LIBCUDA"] = fake_driver(folder)
        os.environ["FAKE_CUDA_PACE_NS"] = str(arguments.pace_ns)
        measure(arguments)


if __name__ == "__main__":
    main()
