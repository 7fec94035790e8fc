"""Small made-up GPUs on which everything but the blocks' own time is free, unless a test says so,
and runs on them. Times in µs.
"""

from collections import defaultdict

import msgspec

from paella import _core

KIB = 1024
FREE_GPU = (
    *("cache_penalty", "ramp_us", "stream_gap_us", "graph_gap_us", "contended_gap_us"),
    *("graph_start_us", "launch_latency_us", "notify_latency_us", "message_us"),
    *("query_latency_us", "callback_latency_us", "notes_us", "notes_work_us"),
)
FREE_HOST = (
    *("first_launch_us", "graph_issue_us", "graph_kernel_us", "notify_issue_us", "poll_us"),
    *("message_us", "request_us", "decision_us", "admission_us"),
)


def device(
    sms=2, *, gpu=None, host=None, copy=None, clock=1.0, lanes=1.0, l2=0.0, resident=128, **sm
):
    limits = {"threads": 1024, "blocks": 32, "regs": 65536, "smem_bytes": 64 * KIB}
    behaviour = {
        "saturation_warps": 1e9,
        "light_weight": 1.0,
        "time_slice_us": 1000.0,
        "graph_queues": 0,
        **dict.fromkeys(FREE_GPU, 0.0),
    }
    costs = {"issue_us": {1: 0.0}, **dict.fromkeys(FREE_HOST, 0.0)}
    rates = {"h2d_bytes_per_us": 1000.0, "d2h_bytes_per_us": 1000.0, "latency_us": 0.0}
    return {
        "label": "made-up",
        "hardware_queues": 8,
        "mps_queues": 8,
        "sm": {"count": sms, "reserved_smem_bytes": 0, **limits, **sm},
        "clock_scale": clock,
        "lanes_scale": lanes,
        "l2_bytes": l2,
        "resident_kernels": resident,
        "gpu": behaviour | (gpu or {}),
        "host": costs | (host or {}),
        "copy": rates | (copy or {}),
    }


def kernel(blocks, us, threads=32, regs=0, smem=0, load=0.0):
    return {
        "name": f"{blocks}x{threads}",
        "blocks": blocks,
        "shape": {"threads": threads, "regs_per_thread": regs, "smem_bytes": smem},
        "duration_ns": round(us * 1000),
        "load": load,
    }


def model(*kernels, copy_in_us=0, copy_out_us=0, weights=0, arena=0):
    """Its copies take so long at the rates of device()."""
    return {
        "name": "+".join(k["name"] for k in kernels),
        "kernels": list(kernels),
        "input_bytes": copy_in_us * 1000,
        "output_bytes": copy_out_us * 1000,
        "weights_bytes": weights,
        "arena_bytes": arena,
    }


def us(ns):
    """To 0.1 µs: a block's end is rounded up to the next whole ns."""
    return round(int(ns) / 1000, 1)


class Gpu:
    """The simulated GPU by itself, measured on itself unless there is a reference."""

    def __init__(self, device, *models, reference=None, mps=True, queues=32):
        specifications = device, reference or device, list(models)
        self.sim = _core.SimGpu(*map(msgspec.json.encode, specifications), mps)
        self.kernels = [len(m["kernels"]) for m in models]
        self.process = self.sim.add_process(queues)
        self.tags = 0

    def stream(self, priority=0, process=None):
        return self.sim.add_stream(self.process if process is None else process, priority)

    def submit(self, stream, model, first=0, last=None, **options):
        """Tags count the submissions."""
        last = self.kernels[model] if last is None else last
        self.sim.submit(stream, model, first, last, tag=self.tags, **options)
        self.tags += 1

    def launch(self, *models, **options):
        """Each in a new stream."""
        for m in models:
            self.submit(self.stream(), m, **options)

    def run(self):
        """Start and end of every kernel, submission by submission."""
        self.end = us(self.sim.run())
        kernels = self.sim.timeline()["kernels"]
        spans = defaultdict(list)
        for job, start, end in zip(
            kernels["job"], kernels["started_ns"], kernels["finished_ns"], strict=True
        ):
            spans[int(job)].append((us(start), us(end)))
        return [sorted(spans[tag]) for tag in range(self.tags)]

    def blocks(self):
        """(start, end, SM, blocks) of every submission's groups of blocks, in order."""
        timeline = self.sim.timeline()
        groups = defaultdict(list)
        columns = ("kernel", "started_ns", "finished_ns", "sm", "blocks")
        for k, start, end, sm, n in zip(*(timeline["blocks"][c] for c in columns), strict=True):
            groups[int(timeline["kernels"]["job"][k])].append((us(start), us(end), int(sm), int(n)))
        return [sorted(groups[tag]) for tag in range(self.tags)]


def in_use(sim):
    """(warps, register units, shared-memory units, blocks) of each SM, the busiest first."""
    return sorted((tuple(use) for n, *use in sim.usage() for _ in range(n)), reverse=True)


# ---- runs of a system

# Fields of a System; `streams` and `owner` make its streams, a name alone is a policy or admission.
SYSTEM = {
    "submission": "dispatcher",
    "streams": 32,
    "owner": "stage",
    "notify": "unit",
    "processes": "shared",
    "sharing": "mps",
    "threads": 1,
    "kernels": "instrumented",
    "policy": "fifo",
    "admission": "none",
    "unit": "job",
    "launch": "kernels",
    "estimates": "profile",
    "warm_up": "none",
    "hardware_queues": 32,
    "slo_factor": 5.0,
    "request_us": {},
}
NOTIFY = {"blocks": {"blocks": 16}, "unit": "unit", "stream": "stream"}


def system(**settings):
    """A System as the engine reads it."""
    assert settings.keys() <= SYSTEM.keys(), settings.keys() - SYSTEM.keys()
    made = SYSTEM | settings
    made["streams"] = {"count": made["streams"], "owner": made.pop("owner")}
    if isinstance(made["unit"], dict):
        made["unit"] = {"kernels": None, "us": None} | made["unit"]
    made["request_us"] = {"latency": 0.0, "cpu": 0.0, "response": 0.0} | made["request_us"]
    for key in ("policy", "admission"):
        if isinstance(made[key], str):
            made[key] = {"name": made[key]}
    return made


class Result:
    """Columns of the jobs' record in µs."""

    def __init__(self, result):
        self.model = [int(m) for m in result.model]
        self.due, self.submitted, self.started, self.finished = (
            [us(t) for t in getattr(result, f"{what}_ns")]
            for what in ("due", "submitted", "started", "finished")
        )
        self.counters = result.counters.as_dict()
        self.timeline = result.timeline

    def kernels(self, job):
        """(eligible, start, end) of a job's kernels, in order; -1 stands for the warm-up."""
        k = self.timeline["kernels"]
        rows = sorted(
            (i for i, of in enumerate(k["job"]) if of == job), key=lambda i: k["kernel"][i]
        )
        return [
            tuple(us(k[f"{what}_ns"][i]) for what in ("eligible", "started", "finished"))
            for i in rows
        ]

    def eligible(self):
        """When each job's first kernel reached the GPU."""
        return [self.kernels(job)[0][0] for job in range(len(self.model))]


def specification(device, models, jobs, *, instances=100, cap=100, **settings):
    """`jobs`: the model of each, or (model, due µs)."""
    jobs = [job if isinstance(job, tuple) else (job, 0) for job in jobs]
    outer = {"clients": None, "think_us": 0.0, "timeline": True}
    outer |= {key: settings.pop(key) for key in list(settings) if key in outer}
    return {
        "device": device,
        "reference": device,
        "models": models,
        "instances": instances if isinstance(instances, list) else [instances] * len(models),
        "cap": cap,
        "system": system(**settings),
        "arrivals": None,
        "jobs": {
            "model": [m for m, _ in jobs],
            "due_ns": [round(due * 1000) for _, due in jobs],
        },
        **outer,
    }


def serve(*args, policy="fifo", **kwargs):
    """`policy`: a name, options with a name, or an object that is one."""
    own = None if isinstance(policy, str | dict) else policy
    spec = specification(*args, policy="fifo" if own is not None else policy, **kwargs)
    return Result(_core.simulate(msgspec.json.encode(spec), own))
