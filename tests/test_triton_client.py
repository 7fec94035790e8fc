"""The load generator against a stand-in for Triton: what it sends, counts, and refuses."""

import numpy as np
import pytest
from made_triton import Server
from msgspec.structs import replace

from paella import _core
from paella.config import Config, resolve
from paella.schema import RunSpec
from paella.specification import specification

TENSORS = [("resnet18", [4000], [40]), ("inception_v3", [20000], [40])]
JOBS = 40


def spec(**fields):
    fields = {"system": "Triton", "mix": "fig12", "iat_us": 200, "jobs": JOBS} | fields
    return replace(specification(resolve(RunSpec(**fields), Config())), instances=[3, 2])


def load(server, run=None, **options):
    how = {"port": server.port, "connections": 2, "in_band": False, "spin": False, "cpu": -1}
    how |= {"seed": 1, "watchdog_s": 30.0, "expected": []}
    return _core.triton_load((run or spec()).text(), TENSORS, **how | options)


@pytest.mark.parametrize("in_band", [False, True])
@pytest.mark.parametrize(("window", "spin"), [(1000, False), (65535, True), (10**6, False)])
def test_every_request_of_the_trace_is_answered_once(in_band, window, spin):
    run = spec()
    with Server(window=window, outputs=40) as server:
        result = load(server, run, in_band=in_band, spin=spin)
    assert server.requests == JOBS + 5  # and each instance once, before
    assert result.counters.outputs_checked == JOBS
    models, due_ns = _core.jobs(run.text())
    assert (result.model == models).all()
    assert (result.due_ns == due_ns).all()
    assert (result.submitted_ns >= result.due_ns).all()
    assert (result.finished_ns > result.submitted_ns).all()
    assert result.counters.elapsed_ns >= result.finished_ns.max()
    assert (result.started_ns == -1).all()  # this server does not say
    assert 0 < len(result.late_us) <= JOBS
    assert result.own_us > 0


def test_no_model_has_more_requests_in_flight_than_instances_and_no_run_more_than_its_cap():
    batch = spec(iat_us=0)
    with Server(outputs=40) as server:
        result = load(server, replace(batch, cap=2))
    begins, ends = result.submitted_ns, result.finished_ns
    in_flight = [int(((begins <= t) & (ends > t)).sum()) for t in begins]
    assert max(in_flight) <= 2
    with Server(outputs=40) as server:
        result = load(server, batch)
    for model, instances in enumerate(batch.instances):
        of = result.model == model
        begins, ends = result.submitted_ns[of], result.finished_ns[of]
        assert all(int(((begins <= t) & (ends > t)).sum()) <= instances for t in begins)


def test_users_of_a_closed_loop_wait_for_their_answers():
    closed = spec(arrival="closed-loop", clients=2, think_us=100)
    with Server(outputs=40) as server:
        result = load(server, closed)
    due = np.sort(result.due_ns)
    ends = np.sort(result.finished_ns)
    assert (due[2:] >= ends[:-2] + 100_000).all()


SENTENCES = {
    "refuse": "the Triton server refuses a request of .* in the warm-up: no 100% fit",
    "wrong": "an output of .* through Triton is not what the model gives in the warm-up",
    "close": "the server has closed the connection|the connection to the server has ended",
    "goaway": "the server ends the connection",
    "reset": "the server has refused a request: HTTP/2 error 7",
    "huffman": "the server sends headers in a code that this client does not read",
    "table": "the server refers to a header that it has not sent",
    "truncated": "the server sends a malformed header",
    "slow": "the Triton server has answered nothing for 0 s, with 3 requests in flight",
}


@pytest.mark.parametrize("manner", SENTENCES)
def test_each_fault_is_a_sentence(manner):
    with (
        Server(manner, outputs=40) as server,
        pytest.raises(_core.Error, match=SENTENCES[manner]) as caught,
    ):
        load(server, watchdog_s=0.2 if manner == "slow" else 30.0)
    assert "\n" not in str(caught.value)


def test_a_fault_in_the_middle_of_the_trace():
    with Server(outputs=40) as server:
        answer = server.answer

        def refuse_later(path, message):
            if server.requests > 20:
                server.manner = "refuse"
            return answer(path, message)

        server.answer = refuse_later
        with pytest.raises(_core.Error, match="during the run: no 100%"):
            load(server)


def test_no_server():
    with Server() as gone:
        pass
    with pytest.raises(_core.Error, match=f"no server answers at port {gone.port}: "):
        load(gone)


def test_a_model_with_two_inputs_goes_through_shared_memory_only():
    two = [("resnet18", [4000, 4], [40]), TENSORS[1]]
    options = {"connections": 1, "spin": False, "cpu": -1, "seed": 1, "watchdog_s": 1.0}
    with Server() as server:
        options |= {"port": server.port, "in_band": True, "expected": []}
        with pytest.raises(_core.Error, match="models with one input"):
            _core.triton_load(spec().text(), two, **options)
