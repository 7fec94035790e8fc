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


def fake_plan(folder, model):
    """As many kernels as the model, with as many blocks, on memories of a few bytes."""
    from paella.plan import Launch, Ref, Tensor
    from paella.specification import PlanBody, PlanFiles

    count, output = len(model.kernels), Ref("output0", 0, model.output_bytes)

    def launch(i):
        source = Ref("input0", 0, 64) if i == 0 else Ref("arena", (i + 1) % 2 * 256, 64)
        target = output if i == count - 1 else Ref("arena", i % 2 * 256, 64)
        arguments = [source, Ref("weights", 0, 16), target]
        return Launch(f"k{i}", "step", (model.kernels[i].blocks, 1, 1), (32, 1, 1), arguments)

    plan = PlanBody(
        kernels=[launch(i) for i in range(count)],
        inputs=[Tensor("x", "float32", [16], Ref("input0", 0, 64))],
        outputs=[Tensor("y", "uint8", [model.output_bytes], output)],
        arena_bytes=512,
    )
    files = {
        "plain": b"kernel step 3 plain",
        "instrumented": b"kernel step 3 instrumented",
        "weights": bytes(16),
    }
    for name, content in files.items():
        Path(folder, name).write_bytes(content)
    return PlanFiles(model.name, plan, **{name: str(Path(folder, name)) for name in files}).text()


def run_of(label, overrides, jobs):
    from paella.config import resolve
    from paella.schema import RunSpec
    from paella.specification import specification

    system = label.split(",")[0]
    if system == "kernel by kernel":
        system, overrides = "Paella-seg", BY_KERNEL | overrides
    run = resolve(RunSpec(system, jobs=jobs, iat_us=0, cap=JOBS_IN_FLIGHT, overrides=overrides))
    return specification(run)


def measure(arguments, folder):
    from paella import _core

    specs = {
        label: run_of(label, overrides, arguments.jobs)
        for label, overrides in VARIANTS
        if arguments.only in label
    }
    first = next(iter(specs.values()))
    engine = _core.CudaEngine(
        [fake_plan(folder, m) for m in first.models], first.instances, watchdog_s=20.0
    )
    cpu = max(os.sched_getaffinity(0))
    costs = {label: [] for label in specs}
    counts = {}
    for _ in range(arguments.repetitions):
        for label, spec in specs.items():
            counters = engine.run(spec.text(), cpu=cpu).counters
            costs[label].append(counters.decision_ns_per_dispatch)
            counts[label] = counters.dispatches
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
        measure(arguments, folder)


if __name__ == "__main__":
    main()
