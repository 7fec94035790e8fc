"""Runs made up for tests of what reads and writes them: no engine behind them."""

import numpy as np

from paella.config import Config, find_folder, resolve
from paella.results import RunOutput, write_run
from paella.schema import RunSpec

CONFIG = Config(find_folder().resolve())


def make_run(jobs=200, *, slower_ns=0, made_seed=None, **spec):
    """A Run and an output for it: Poisson-like arrivals, gamma latencies, all from the seed."""
    run = resolve(RunSpec(**({"system": "Paella", "jobs": jobs} | spec)), CONFIG)
    random = np.random.default_rng(run.spec.seed if made_seed is None else made_seed)
    due = np.cumsum(random.exponential(1e6, jobs)).astype(np.int64)
    latency = random.gamma(2.0, 3e6, jobs).astype(np.int64) + slower_ns
    shares = [m.proportion for m in run.mix.models]
    return run, RunOutput(
        job=np.arange(jobs),
        model=random.choice(len(shares), jobs, p=np.array(shares) / sum(shares)),
        due_ns=due,
        submitted_ns=due + latency // 10,
        started_ns=due + latency // 5,
        finished_ns=due + latency,
        model_names=[m.model for m in run.mix.models],
        counters={"dispatches": np.int64(17), "host_cpu_us": 2.5},
        provenance={"engine_version": "1"},
    )


def write(path, *args, **kwargs):
    write_run(path, *make_run(*args, **kwargs))
    return path


def timeline():
    """Two jobs of one and two kernels on two SMs, the blocks' rows out of order."""
    kernels = {
        "job": [0, 1, 1],
        "model": [0, 1, 1],
        "kernel": [0, 0, 1],
        "stream": [3, 5, 5],
        "eligible_ns": [0, 0, 900],
        "started_ns": [100, 200, 900],
        "finished_ns": [800, 900, 1500],
    }
    blocks = {
        "kernel": [1, 0, 0, 2, 1],
        "sm": [0, 0, 1, 0, 1],
        "blocks": [4, 8, 8, 2, 4],
        "started_ns": [200, 100, 100, 900, 800],
        "finished_ns": [900, 800, 700, 1500, 850],
    }
    return {
        "kernels": {name: np.array(column) for name, column in kernels.items()},
        "blocks": {name: np.array(column) for name, column in blocks.items()},
    }
