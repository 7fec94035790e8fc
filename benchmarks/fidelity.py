"""How far the simulated H100 is from the measured one.

Prints measured, simulated and error for every figure of each device's kernel profile: each model
alone, the concurrency curves, the hardware-queue tables. For h100-v1 also for the CUDA-MS and
segment experiments on the eight-model mix, a second look: of parameters that fit its curves equally
well, ones that come close to these were taken.

    python benchmarks/fidelity.py [--devices h100 h100-v1] [--json]
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
from msgspec import structs

from paella import _core
from paella.config import Config, resolve
from paella.schema import Device, HostCosts, Profile, RunSpec
from paella.simulation import run
from paella.specification import BlockShape, KernelSpecification, ModelSpecification

QUEUE_KERNEL_US = 95  # where a profile does not say
INDEPENDENT_KERNEL_US = 550
SYNC_US = 10.0  # launch_to_stream_sync of the profile


# A throwaway engine on the same H100 and on 40 of its SMs (MPS, 30 %), sigma 2, 3000 jobs, seed 1:
# SMs, system with its settings, mean inter-arrival time (us), mean and p99 latency (ms). The
# middle of several results where an experiment was repeated. Points past saturation are left
# out: their inter-arrival times were not written down.
def segments(alpha, jobs):
    return {
        "policy": f"{{name: ageing, alpha: {alpha}}}",
        "admission": f"{{name: jobs, jobs: {jobs}}}",
    }


EXPERIMENTS = [
    (132, "CUDA-MS", {}, 1000, 6.5, 22.1),
    (132, "CUDA-MS", {}, 500, 14.7, 54.0),
    (132, "CUDA-MS", {}, 400, 26.0, 87.4),
    (132, "CUDA-Graphs", {}, 1000, 5.1, 15.0),
    (132, "CUDA-Graphs", {}, 500, 15.7, 82.0),
    (132, "CUDA-Graphs", {}, 400, 25.6, 94.5),
    (132, "Paella-seg", segments(0, 32), 1000, 5.2, 15.3),
    (132, "Paella-seg", segments(0, 32), 500, 10.4, 76.7),
    (132, "Paella-seg", segments(0.1, 32), 500, 10.4, 60.4),
    (132, "Paella-seg", segments(0.5, 32), 500, 11.2, 46.2),
    (132, "Paella-seg", segments(0, 32), 400, 14.7, 118.4),
    (132, "Paella-seg", segments(0.1, 32), 400, 14.8, 83.6),
    (40, "CUDA-MS", {}, 2000, 22.1, 111.9),
    (40, "CUDA-MS", {}, 1333, 59.4, 268.2),
    (40, "Paella-seg", segments(0, 12), 2000, 15.3, 115.8),
    (40, "Paella-seg", segments(0, 12), 1333, 34.9, 393.9),
]


@dataclass
class Point:
    table: str
    what: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        return self.simulated / self.measured - 1


class Gpu:
    """The simulated device with a model, one process and its streams."""

    def __init__(self, device: Device, model: ModelSpecification, queues: int, streams: int):
        text = msgspec.json.encode(device)
        self.sim = _core.SimGpu(text, text, msgspec.json.encode([model]))
        process = self.sim.add_process(queues)
        self.streams = [self.sim.add_stream(process) for _ in range(streams)]


def behind_a_gate(device: Device) -> Device:
    """The device with everything issued beforehand: launches cost the host nothing."""
    gpu = structs.replace(device.gpu, launch_latency_us=0.0)
    return structs.replace(device, host=HostCosts(issue_us={1: 0.0}), gpu=gpu)


def alone(device, profile):
    for name, model in profile.models.items():
        plan = ModelSpecification.of(name, model)
        for table, graph, measured_ms in (
            ("alone, one stream (ms)", False, model.alone_stream_ms),
            ("alone, one graph (ms)", True, model.graph_ms),
        ):
            gpu = Gpu(behind_a_gate(device), plan, 8, 1)
            gpu.sim.submit(gpu.streams[0], 0, 0, len(model.kernels), graph=graph)
            yield Point(table, name, measured_ms, gpu.sim.run() / 1e6)


def concurrency(device, profile, seconds=0.06):
    for name, curve in profile.concurrency.items():
        if name == "about":
            continue
        model = profile.models[name]
        graphs = max(6, min(24, round(seconds * 1e3 / model.graph_ms)))
        for streams, measured in curve.items():
            gpu = Gpu(behind_a_gate(device), ModelSpecification.of(name, model), 32, int(streams))
            for _ in range(graphs):
                for stream in gpu.streams:
                    gpu.sim.submit(stream, 0, 0, len(model.kernels), graph=True)
            rate = len(gpu.streams) * graphs / (gpu.sim.run() / 1e9)
            yield Point("concurrency (req/s)", f"{name}, {streams} streams", measured, rate)


def one_block(kernels: int, us: float) -> ModelSpecification:
    shape = BlockShape(threads=128, regs_per_thread=32, smem_bytes=0)
    kernel = KernelSpecification("one_block", 1, shape, duration_ns=round(us * 1e3), load=0.0)
    sizes = dict.fromkeys(("input_bytes", "output_bytes", "weights_bytes", "arena_bytes"), 0)
    return ModelSpecification("one_block", [kernel] * kernels, **sizes)


def hardware_queues(device, profile):
    found = profile.hardware_queues
    gated = behind_a_gate(device)
    chain = one_block(8, found.get("chained_kernel_us", QUEUE_KERNEL_US))
    for queues in (8, 32):
        for order, curve in found.get(f"CUDA_DEVICE_MAX_CONNECTIONS={queues}", {}).items():
            for streams, measured in curve.items():
                gpu = Gpu(gated, chain, queues, int(streams))
                steps = [(0, 8)] if order == "job_by_job" else [(k, k + 1) for k in range(8)]
                for first, last in steps:
                    for stream in gpu.streams:
                        gpu.sim.submit(stream, 0, first, last)
                what = f"{queues} queues, {order}, {streams} streams"
                yield Point("hardware queues (us)", what, measured, gpu.sim.run() / 1e3)
    for streams, measured in found.get("independent", {}).items():
        if streams == "about":
            continue
        gpu = Gpu(device, one_block(1, INDEPENDENT_KERNEL_US), 32, int(streams))
        for stream in gpu.streams:
            gpu.sim.submit(stream, 0, 0, 1)
        what = f"32 queues, independent, {streams} streams"
        yield Point("hardware queues (us)", what, measured, gpu.sim.run() / 1e3 + SYNC_US)


def experiments(device):
    config = Config()
    for sms, system, overrides, iat_us, mean_ms, p99_ms in EXPERIMENTS:
        whole = resolve(
            RunSpec(system, device=device.name, iat_us=iat_us, overrides=overrides), config
        )
        part = structs.replace(device, sm=structs.replace(device.sm, count=sms))
        result = run(structs.replace(whole, device=part))
        latency_ms = np.sort(result.finished_ns - result.due_ns) / 1e6
        policy = f", policy {overrides['policy']}" if overrides else ""
        what = f"{sms} SMs, {system}{policy}, iat {iat_us} us"
        yield Point("second look: mean (ms)", what, mean_ms, latency_ms.mean())
        p99 = latency_ms[int(len(latency_ms) * 0.99)]
        yield Point("second look: p99 (ms)", what, p99_ms, p99)


def points_of(device: Device, profile: Profile) -> list[Point]:
    points = [
        point for table in (alone, concurrency, hardware_queues) for point in table(device, profile)
    ]
    return points + (list(experiments(device)) if profile.name == "h100-v1" else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--devices", nargs="+", default=["h100", "h100-v1"], metavar="NAME")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = Config()
    devices = [config.device(name) for name in args.devices]
    found = {d.name: points_of(d, config.profile(d.profile)) for d in devices}
    if args.json:
        rows = [
            {"device": name} | asdict(p) | {"error": p.error}
            for name, points in found.items()
            for p in points
        ]
        print(json.dumps(rows))
        return
    for device in devices:
        print(f"{device.label}, simulated by {_core.engine_version} with profile {device.profile}")
        print_tables(found[device.name])


def print_tables(points: list[Point]) -> None:
    for table in dict.fromkeys(p.table for p in points):
        rows = [p for p in points if p.table == table]
        errors = [abs(p.error) for p in rows]
        print(f"\n{table:<58} {'measured':>9} {'simulated':>9} {'error':>7}")
        for p in rows:
            print(f"  {p.what:<56} {p.measured:>9.5g} {p.simulated:>9.5g} {p.error:>+7.1%}")
        print(f"  {'median, largest error':<76} {statistics.median(errors):.1%} {max(errors):.1%}")
    print()


if __name__ == "__main__":
    main()
