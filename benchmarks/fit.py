"""Fits the simulated GPU's parameters to what was measured of the real one.

Looks for the parameters of `gpu` in config/devices/NAME.yaml with which the concurrency curves and
the models alone of its kernel profile come out best: a pattern search from the present values, in
factors. Prints each improvement, and at the end the lines for the device's file.
What is left of the error: benchmarks/fidelity.py.

    python benchmarks/fit.py [--device h100] [--minutes 10]
"""

import argparse
import math
import time
from multiprocessing import Pool

import fidelity
from msgspec import structs

from paella.config import Config

FITTED = (
    "saturation_warps",
    "light_weight",
    "ramp_us",
    "contended_gap_us",
    "cache_penalty",
    "graph_start_us",
    "stream_gap_us",
)
STEP, FINEST = 1.25, 1.02  # factors


def model_errors(job) -> list[float]:
    """Logarithms of simulated / measured, of one model of one profile."""
    device, profile = job
    points = [
        *fidelity.alone(device, profile),
        *fidelity.concurrency(device, profile, seconds=0.03),
    ]
    return [math.log(p.simulated / p.measured) for p in points]


def one_model(profile, name):
    curve = {name: profile.concurrency[name]} if name in profile.concurrency else {}
    return structs.replace(profile, models={name: profile.models[name]}, concurrency=curve)


def loss(pool, device, profile) -> tuple[float, str]:
    """Root mean square plus half the largest; and a summary."""
    jobs = [(device, one_model(profile, name)) for name in profile.models]
    errors = [abs(e) for found in pool.map(model_errors, jobs, 1) for e in found]
    rms, largest = math.sqrt(sum(e * e for e in errors) / len(errors)), max(errors)
    return rms + largest / 2, f"rms {rms:.1%}, largest {largest:.1%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="h100")
    parser.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    args = parser.parse_args()
    config = Config()
    device = config.device(args.device)
    profile = config.profile(device.profile)
    end = time.monotonic() + 60 * args.minutes
    with Pool() as pool:
        best, text = loss(pool, device, profile)
        print(f"{best:.4f}  {text}", flush=True)
        step = STEP
        while step > FINEST and time.monotonic() < end:
            improved = False
            for name in FITTED:
                for factor in (step, 1 / step):
                    if time.monotonic() > end:
                        break
                    value = round(getattr(device.gpu, name) * factor, 4)
                    gpu = structs.replace(device.gpu, **{name: value})
                    tried = structs.replace(device, gpu=gpu)
                    found, text = loss(pool, tried, profile)
                    if found < best:
                        best, device, improved = found, tried, True
                        print(f"{best:.4f}  {name}: {value:g}; {text}", flush=True)
                        break
            if not improved:
                step = math.sqrt(step)
    for name in FITTED:
        print(f"  {name}: {getattr(device.gpu, name):.3g}")


if __name__ == "__main__":
    main()
