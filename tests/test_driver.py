"""The CUDA driver as the package loads it: none, a wrong one, a fake one; probes on a real one."""

import json
import os
import subprocess
import sys

import fake_driver
import pytest

DEVICES = """
import msgspec
from paella import _core
print(msgspec.json.encode(_core.cuda_devices()).decode())
"""
PROBE = """
import json
from paella import _core
print(json.dumps(_core.cuda_probe({device}, repetitions={repetitions})))
"""


def run(code, **env):
    """What the code prints as JSON, or the sentence of its _core.Error; in a process of its own."""
    code = f"""
from paella import _core
try:
    exec({code!r})
except _core.Error as e:
    print("Error:", e)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = done.stdout.strip()
    if out.startswith("Error:"):
        assert "\n" not in out
        return out.removeprefix("Error: ")
    return json.loads(out)


@pytest.fixture(scope="session")
def build_fake(tmp_path_factory):
    return lambda *flags: fake_driver.build(tmp_path_factory.mktemp("fake"), *flags)


@pytest.fixture(scope="session")
def fake(build_fake):
    return build_fake()


def test_no_library():
    sentence = run(DEVICES, PAELLA_LIBCUDA="/nowhere/libcuda.so")
    assert sentence.startswith("there is no CUDA driver: /nowhere/libcuda.so: cannot open")


def test_no_library_at_all(tmp_path):
    path = tmp_path / "libcuda.so"
    path.write_text("not a library")
    sentence = run(DEVICES, PAELLA_LIBCUDA=str(path))
    assert sentence.startswith("there is no CUDA driver: ")


def test_another_library():
    sentence = run(DEVICES, PAELLA_LIBCUDA="libc.so.6")
    assert sentence == "libc.so.6 is no CUDA driver, or one older than 11.7: it has no cuInit"


def test_an_old_driver(build_fake):
    library = build_fake("-DFAKE_CUDA_OLD")
    sentence = run(DEVICES, PAELLA_LIBCUDA=library)
    assert sentence.endswith("older than 11.7: it has no cuStreamWriteValue32_v2")


def test_no_device(fake):
    assert run(DEVICES, PAELLA_LIBCUDA=fake, FAKE_CUDA_INIT="100") == (
        "starting the CUDA driver failed: CUDA_ERROR_NO_DEVICE (100), "
        "no CUDA-capable device is detected"
    )


def test_devices(fake):
    devices = run(DEVICES, PAELLA_LIBCUDA=fake)
    assert [d["name"] for d in devices] == ["Fake 0", "Fake 1"]
    # The fake driver answers an attribute with its number in CUdevice_attribute.
    assert devices[0] == {
        "name": "Fake 0",
        "compute_capability": "75.76",
        "driver_version": 13000,
        "memory_bytes": 80 << 30,
        "sms": 16,
        "threads_per_sm": 39,
        "blocks_per_sm": 106,
        "regs_per_sm": 82,
        "smem_per_sm": 81,
        "reserved_smem_per_block": 111,
        "l2_bytes": 38,
        "copy_engines": 40,
        "clock_khz": 13,
    }


def check_probe(probe):
    host, queues = probe["host"], probe["queues"]
    assert list(host["launch_us_by_streams"]) == ["1", "8", "32", "64"]
    assert list(host["graph_by_kernels"]) == ["1", "16", "54"]
    kinds = {"kernel_flag", "event_query", "stream_query", "host_function", "write_value"}
    seen = host["launch_to_seen_by"]
    assert {"same_thread"} <= seen.keys() <= {"same_thread", "same_core", "other_core"}
    for latencies in seen.values():
        assert kinds - {"write_value"} <= latencies.keys() <= kinds
        for latency in latencies.values():
            assert 0 <= latency["median_us"] <= latency["p99_us"]
    assert list(queues["job_by_job_us_by_streams"]) == ["8", "16", "32", "64", "128"]
    assert queues["job_by_job_us_by_streams"].keys() == (
        queues["kernel_by_kernel_us_by_streams"].keys()
    )
    assert list(queues["independent_us_by_streams"]) == ["8", "32", "64", "128", "256"]
    assert (host["copy_in"]["bytes"], host["copy_out"]["bytes"]) == (602112, 4000)


def test_the_probe_runs_through_and_leaves_nothing(fake):
    # `run` sees that the fake driver has nothing to say about handles left over.
    check_probe(run(PROBE.format(device=1, repetitions=20), PAELLA_LIBCUDA=fake))


def test_a_gpu_without_stream_writes(fake):
    code = PROBE.format(device=0, repetitions=5)
    probe = run(code, PAELLA_LIBCUDA=fake, FAKE_CUDA_NO_WRITE="1")
    assert probe["host"]["write_value_us"] is None
    assert "write_value" not in probe["host"]["launch_to_seen_by"]["same_thread"]
    check_probe(probe)


def test_a_launch_that_fails(fake):
    code = PROBE.format(device=0, repetitions=5)
    assert run(code, PAELLA_LIBCUDA=fake, FAKE_CUDA_LAUNCH="719") == (
        "launching a probe's kernel failed: CUDA_ERROR_OTHER (719), something else"
    )


@pytest.mark.parametrize(
    ("device", "repetitions", "sentence"),
    [
        (2, 10, "asking for a device failed: CUDA_ERROR_OTHER (101), something else"),
        (-1, 10, "there is no device -1"),
        (0, 0, "a probe needs at least one repetition"),
    ],
)
def test_what_the_probe_refuses(fake, device, repetitions, sentence):
    code = PROBE.format(device=device, repetitions=repetitions)
    assert run(code, PAELLA_LIBCUDA=fake) == sentence


@pytest.mark.gpu
def test_the_probe_on_a_device():
    devices = run(DEVICES)
    if isinstance(devices, str):
        pytest.skip(devices)
    print(json.dumps(devices, indent=2))
    for connections in ("8", "32"):
        code = PROBE.format(device=0, repetitions=1000)
        probe = run(code, CUDA_DEVICE_MAX_CONNECTIONS=connections)
        assert not isinstance(probe, str), probe
        print(f"CUDA_DEVICE_MAX_CONNECTIONS={connections}", json.dumps(probe, indent=2))
        check_probe(probe)
        # A chain of spinning kernels cannot be faster than its kernels, and without head-of-line
        # blocking 8 streams run at once.
        assert probe["queues"]["chained_kernel_us"] >= 94
        assert 8 * 94 <= probe["queues"]["kernel_by_kernel_us_by_streams"]["8"] <= 2 * 8 * 95
        assert probe["host"]["launch_to_seen_by"]["same_thread"]["kernel_flag"]["median_us"] < 1000
