"""What is between a client process and the server's thread: times, fairness, and endurance.

    python benchmarks/ipc.py                    the table
    python benchmarks/ipc.py --soak 20000000    requests of 8 clients that come and go
    python benchmarks/ipc.py --kill 1000        clients killed at random moments
    python benchmarks/ipc.py --die 100          servers killed, and when their clients hear of it
    python benchmarks/ipc.py --fuzz 10000000    inputs of a hostile client, with the sanitizers

The server is one without a device (tests/echo_server.py), or with --server NAME one that is there.
The table wants two cores that nothing else uses. Needs a C++ compiler.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import paella
from paella.serving.client import NoOutputError

HERE = Path(__file__).parent
CORE = HERE.parent / "core"
TESTS = HERE.parent / "tests"
WAKES = ("poll", "block", "hybrid")
ECHOED = ("copy", "big", "empty", "pair")  # models of the server without a device


def build_client(folder):
    return _build(folder, HERE / "ipc_client.cpp", ["-std=c++17", "-O2"])


def build_fuzzer(folder):
    """The server's code counts what is reached, the fuzzer itself does not."""
    flags = ["-std=c++20", "-O1", "-g1", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all"]
    parts = []
    for name in ("segment", "sessions_control", "sessions_serving", "sessions_waiting"):
        part = Path(folder) / f"{name}.o"
        source = CORE / "src" / "ipc" / f"{name}.cpp"
        _compile([*flags, "-fsanitize-coverage=trace-pc", "-c", source, "-o", part])
        parts.append(part)
    return _build(folder, TESTS / "ipc_fuzz.cpp", [*flags, *parts])


def _build(folder, source, flags):
    program = Path(folder) / source.stem
    _compile([*flags, source, "-o", program])
    return program


def _compile(arguments):
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    command = [compiler, "-Wall", "-Wextra", "-pthread", f"-I{CORE / 'include'}", *arguments]
    subprocess.run([str(part) for part in command], check=True)


class EchoServer(subprocess.Popen):
    def __init__(self, options):
        self.name = f"bench-{os.getpid()}"
        command = [sys.executable, str(TESTS / "echo_server.py"), self.name, json.dumps(options)]
        super().__init__(command, stdout=subprocess.PIPE, text=True)


def start_echo_server(**options):
    process = EchoServer(options)
    assert process.stdout.readline() == "ready\n"
    return process


@contextmanager
def echo_server(**options):
    process = start_echo_server(**options)
    try:
        yield process.name
        process.terminate()
        if process.wait(60):
            raise SystemExit(f"the server ended with status {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


class Clients:
    """Starts the client program, on a core of its own where one is given."""

    def __init__(self, folder, core=None):
        self.program = build_client(folder)
        self.pin = ["taskset", "-c", str(core)] if core is not None else []

    def start(self, server, wake, what, model, number, **environment):
        command = [*self.pin, self.program, server, wake, what, model, number]
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {k: str(v) for k, v in environment.items()},
        )

    def run(self, *arguments, **environment):
        return result(self.start(*arguments, **environment))


def result(process):
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"a client failed: {out}{err}")
    return json.loads(out)


# ---- the table


def table(cores, runs):
    with tempfile.TemporaryDirectory() as folder:
        clients = Clients(folder, cores[1])
        rows = []
        with echo_server(idle_ms=0, cpu=cores[0]) as name:
            empty = [clients.run(name, "poll", "turns", "empty", 200_000) for _ in range(runs)]
            rows.append(("empty request, round trip, p50 us", of(empty, "p50_us"), "at most 1"))
            rows.append(("empty request, round trip, p99 us", of(empty, "p99_us"), "at most 5"))
            rate = [clients.run(name, "poll", "stream", "empty", 1000) for _ in range(runs)]
            rows.append(("empty requests, million a second", of(rate, "rate", 1e-6), "at least 2"))
            pairs = []
            free = Clients(folder)  # its two threads want two cores
            for _ in range(runs):
                apart = clients.run(name, "poll", "turns", "big", 4000)
                within = free.run("-", "-", "inside", 602112, 4000)
                pairs.append({"added": apart["p50_us"] - within["p50_us"], **apart})
            rows.append(("602 KB input, round trip, p50 us", of(pairs, "p50_us"), ""))
            rows.append(("… more than between two threads", of(pairs, "added"), "at most 3"))
        with echo_server(idle_ms=0, cpu=cores[0]) as name:
            shares = [fairness(clients, name, 64, 2000) for _ in range(runs)]
            rows.append(("64 blocking clients, max/min share", shares, "below 1.5"))
        with echo_server(idle_ms=0, cpu=cores[0], service_us=1000) as name:
            jobs = {
                wake: [clients.run(name, wake, "turns", "copy", 1000) for _ in range(runs)]
                for wake in WAKES
            }
            for wake in WAKES:
                rows.append((f"1 ms jobs, {wake}: p50 us", of(jobs[wake], "p50_us"), ""))
                rows.append((f"1 ms jobs, {wake}: client's CPU", of(jobs[wake], "cpu"), ""))
            both = list(zip(jobs["hybrid"], jobs["poll"], strict=True))
            added = [h["p50_us"] - p["p50_us"] for h, p in both]
            rows.append(("1 ms jobs, hybrid - poll: p50 us", added, "at most 5"))
            cpu = [h["cpu"] / p["cpu"] for h, p in both]
            rows.append(("1 ms jobs, hybrid / poll: CPU", cpu, "at most 0.1"))
    width = max(len(row[0]) for row in rows)
    print(f"{'':{width}}     median        min        max")
    for what, values, wanted in rows:
        middle = statistics.median(values)
        print(f"{what:{width}} {middle:10.3f} {min(values):10.3f} {max(values):10.3f}  {wanted}")


def of(results, key, factor=1.0):
    return [r[key] * factor for r in results]


def fairness(clients, name, count, ms):
    start = time.monotonic_ns() + 2_000_000_000
    processes = [
        clients.start(name, "block", "loop", "copy", ms, START_NS=start) for _ in range(count)
    ]
    counts = [result(process)["count"] for process in processes]
    return max(counts) / max(min(counts), 1)


# ---- endurance


def soak(requests, server=None, clients_at_once=8, seed=1):
    """Clients come and go; each looks at every one of its answers and outputs."""
    with tempfile.TemporaryDirectory() as folder:
        clients = Clients(folder)
        if server is None:
            with echo_server(idle_ms=1) as name:
                return _soak(clients, name, requests, clients_at_once, seed)
        return _soak(clients, server, requests, clients_at_once, seed)


def _soak(clients, name, requests, at_once, seed):
    chance = random.Random(seed)
    with paella.connect(name) as watcher:
        pid = watcher.stats()["pid"]
        models = [m for m in watcher.models() if m in ("copy", "empty")] or watcher.models()[:1]
        before = sum(m["finished"] for m in watcher.stats()["models"])
        at_first = len(descriptors(pid))
        running, sent, answered, came = [], 0, 0, 0
        sizes = []
        began = time.monotonic()
        while sent < requests or running:
            while sent < requests and len(running) < at_once:
                count = min(chance.choice([1000, 30_000, 100_000, 300_000]), requests - sent)
                wake = chance.choice(WAKES)
                model = chance.choice(models)
                running.append(clients.start(name, wake, "check", model, count, LEAD_US=50))
                sent += count
                came += 1
            ended = [process for process in running if process.poll() is not None]
            running = [process for process in running if process not in ended]
            answered += sum(result(process)["answered"] for process in ended)
            if ended:
                sizes.append((answered, resident_kib(pid), len(descriptors(pid))))
            time.sleep(0.01)
        seconds = time.monotonic() - began
        settle(lambda: len(watcher.stats()["clients"]) == 1)
        finished = sum(m["finished"] for m in watcher.stats()["models"]) - before
        settle(lambda: len(descriptors(pid)) == at_first)
        at_last = len(descriptors(pid))
    early = next(kib for done, kib, _ in sizes if done >= requests / 10)
    return {
        "requests": sent,
        "answered": answered,
        "finished": finished,
        "clients": came,
        "seconds": round(seconds, 1),
        "resident_kib_after_a_tenth": early,
        "resident_kib_at_the_end": resident_kib(pid),
        "descriptors_most": max(count for *_, count in sizes),
        "descriptors_left": at_last - at_first,
    }


def kill(count, server=None, seed=1):
    """Clients killed at random moments, from before they connect; another one looks on."""
    with tempfile.TemporaryDirectory() as folder:
        clients = Clients(folder)
        if server is None:
            with echo_server(idle_ms=1, service_us=20) as name:
                return _kill(clients, name, count, seed)
        return _kill(clients, server, count, seed)


def _kill(clients, name, count, seed):
    chance = random.Random(seed)
    served, wrong, stop = [], [], threading.Event()

    def look_on():
        with paella.connect(name) as there:
            one = there.model(names[0])
            inputs = [np.full(one.inputs[0].shape, x, dtype=np.float32) for x in (1, 2)]
            pairs = [(x, x if echoes else answer_of(one, x)) for x in inputs]
            for x, wanted in itertools.cycle(pairs):
                (served if np.array_equal(answer_of(one, x), wanted) else wrong).append(1)
                if stop.is_set():
                    return

    with paella.connect(name) as watcher:
        echoes = "copy" in watcher.models()
        names = list(ECHOED) if echoes else watcher.models()
        what = ["check", "turns"] if echoes else ["turns"]  # who checks wants an echo
        pid = watcher.stats()["pid"]
        before = len(descriptors(pid)), mappings(pid)
        other = threading.Thread(target=look_on)
        other.start()
        killed = 0
        while killed < count:
            batch = [
                clients.start(name, chance.choice(WAKES), chance.choice(what),
                              chance.choice(names), 10**8)
                for _ in range(2)
            ]  # fmt: skip
            for process in batch:
                time.sleep(chance.random() ** 2 * 0.03)
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += process.returncode == -signal.SIGKILL
                wrong += [process.returncode] * (process.returncode != -signal.SIGKILL)
        stop.set()
        other.join()
        settle(lambda: len(watcher.stats()["clients"]) == 1)
        stats = watcher.stats()
        settle(lambda: mappings(pid) == before[1])
        return {
            "killed": killed,
            "others_served": len(served),
            "wrong": len(wrong),
            "sessions_left": len(stats["clients"]) - 1,
            "in_flight_left": sum(m["in_flight"] + m["waiting"] for m in stats["models"]),
            "descriptors_left": len(descriptors(pid)) - before[0],
            "mappings_left": mappings(pid) - before[1],
        }


def die(count, seed=1):
    """Servers of one name killed at random moments: ms until a client has ended by itself."""
    chance = random.Random(seed)
    told_ms, others = {wake: [] for wake in WAKES}, []
    with tempfile.TemporaryDirectory() as folder:
        clients = Clients(folder)
        for _ in range(count):
            server = start_echo_server(idle_ms=1, service_us=20)
            running = [
                (wake, clients.start(server.name, wake, "turns", "copy", 10**7))
                for wake in WAKES * 2
            ]
            time.sleep(0.2 + 0.3 * chance.random())
            others += [process.poll() for _, process in running if process.poll() is not None]
            server.kill()
            killed_s = time.monotonic()
            for wake, process in running:
                _, said = process.communicate(timeout=60)
                told_ms[wake].append(1e3 * (time.monotonic() - killed_s))
                others += [] if "server" in said else [said]
            server.wait()
            server.stdout.close()
    quantiles = {
        wake: {"p50_ms": round(statistics.median(ms), 1), "most_ms": round(max(ms), 1)}
        for wake, ms in told_ms.items()
    }
    return {"servers": count, "clients": 6 * count, "told": quantiles, "otherwise": others}


def answer_of(model, x):
    """None from a server that computes no outputs."""
    try:
        return model(x)
    except NoOutputError:
        return None


def settle(condition, seconds=30.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)


def descriptors(pid):
    return list(Path(f"/proc/{pid}/fd").iterdir())


def mappings(pid):
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:paella")


def resident_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def fuzz(count, seed):
    with tempfile.TemporaryDirectory() as folder:
        program = build_fuzzer(folder)
        command = [program, count, seed, TESTS / "corpus" / "ipc"]
        subprocess.run([str(part) for part in command], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cores", default="0,1", help="of the server and of the client")
    parser.add_argument("--runs", type=int, default=5, help="of each line of the table")
    parser.add_argument("--server", metavar="NAME", help="of --soak and --kill")
    parser.add_argument("--seed", type=int, default=1)
    for name in ("soak", "kill", "die", "fuzz"):
        parser.add_argument(f"--{name}", type=int, metavar="N")
    args = parser.parse_args()
    if args.fuzz:
        fuzz(args.fuzz, args.seed)
    elif args.soak:
        print(json.dumps(soak(args.soak, args.server, seed=args.seed), indent=1))
    elif args.kill:
        print(json.dumps(kill(args.kill, args.server, seed=args.seed), indent=1))
    elif args.die:
        print(json.dumps(die(args.die, seed=args.seed), indent=1))
    else:
        table([int(core) for core in args.cores.split(",")], args.runs)


if __name__ == "__main__":
    main()
