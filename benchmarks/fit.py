"""Fits the simulated GPU's parameters to what was measured of the real one.

Looks for the parameters of `gpu` in config/devices/NAME.yaml with which the concurrency curves and
the models alone, of one kernel profile or several at once, come out best: a pattern search from the
present values, in factors. Prints each improvement, and at the end the lines for the device's file.
What is left of the error: benchmarks/fidelity.py.

    python benchmarks/fit.py [--device h100] [--profiles h100-v2] [--minutes 10]
"""

import argparse
import math
import time
from multiprocessing import Pool

import fidelity
from msgspec import structs

from paella.config import Config
from paella.simulation import device_specification

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
    spec = device_specification(device)
    points = [*fidelity.alone(spec, profile), *fidelity.concurrency(spec, profile, seconds=0.03)]
    return [math.log(p.simulated / p.measured) for p in points]


def one_model(profile, name):
    curve = {name: profile.concurrency[name]} if name in profile.concurrency else {}
    return structs.replace(profile, models={name: profile.models[name]}, concurrency=curve)


def loss(pool, device, profiles) -> tuple[float, str]:
    """Mean over the profiles of root mean square, plus half the largest; and a summary."""
    jobs = [(device, one_model(p, name)) for p in profiles for name in p.models]
    errors = dict.fromkeys((p.name for p in profiles), ())
    for (_, profile), found in zip(jobs, pool.map(model_errors, jobs, 1), strict=True):
        errors[profile.name] += tuple(abs(e) for e in found)
    rms = {
        name: math.sqrt(sum(e * e for e in found) / len(found)) for name, found in errors.items()
    }
    total = sum(rms[n] + max(errors[n]) / 2 for n in errors) / len(errors)
    return total, ", ".join(f"{n}: rms {rms[n]:.1%}, largest {max(errors[n]):.1%}" for n in errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="h100")
    parser.add_argument("--profiles", nargs="+", metavar="NAME", help="default: the device's")
    parser.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    args = parser.parse_args()
    config = Config()
    device = config.device(args.device)
    profiles = [config.profile(name) for name in args.profiles or [device.profile]]
    end = time.monotonic() + 60 * args.minutes
    with Pool() as pool:
        best, text = loss(pool, device, profiles)
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
                    found, text = loss(pool, tried, profiles)
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
