"""The other runs of a sweep: made with the first, found later, never taken for something else."""

import msgspec
import pytest
from msgspec.structs import replace

from paella import simulation, specification
from paella.ahead import KEPT, Planned, Sweep
from paella.config import Config, resolve
from paella.errors import PaellaError
from paella.results import read_run
from paella.schema import RunSpec

IATS = (500.0, 800.0, 1100.0)


@pytest.fixture
def sweep_of(tmp_path, monkeypatch):
    monkeypatch.setattr(Measured, "plans", str(tmp_path / "plans"))
    specs = [RunSpec("CUDA-SS", "cuda", iat_us=iat, jobs=20) for iat in IATS]
    outs = [tmp_path / f"iat{spec.iat_us:g}.parquet" for spec in specs]
    file = tmp_path / "sweep.json"
    planned = [Planned(spec, str(out)) for spec, out in zip(specs, outs, strict=True)]
    file.write_bytes(msgspec.json.encode(planned))

    def sweep(i, way="in-process", **changes):
        spec = msgspec.structs.replace(specs[i], **changes)
        plans = str(tmp_path / "plans")
        return Sweep(str(file), Config(), resolve(spec), str(outs[i]), plans, way), outs[i]

    return sweep


class Measured:
    """Simulates what is to be measured, and remembers what; the n-th run may go wrong."""

    plans = "plans"

    def __init__(self, fails_at=None, error=None):
        self.iats, self._fails_at, self._error = [], fails_at, error

    def __call__(self, run):
        self.iats.append(run.spec.iat_us)
        if len(self.iats) == self._fails_at:
            raise self._error
        simulated = replace(run, spec=replace(run.spec, backend="sim"))
        output = simulation.run(simulated)
        output.provenance["digest"] = specification.digest(run, plans=self.plans)
        output.provenance["path"] = "in-process"
        return output


def test_the_others_are_made_with_the_first_and_found_later(sweep_of):
    sweep, out = sweep_of(1)
    assert sweep.take() is None
    measure = Measured()
    assert len(sweep.make(measure).job) == 20
    assert measure.iats == [800.0, 500.0, 1100.0]
    assert read_run(out).configuration["iat_us"] == 800
    for i in (0, 2):
        sweep, out = sweep_of(i)
        assert sweep.take() is not None
        assert read_run(out).configuration["iat_us"] == IATS[i]
    assert not list((out.parent / KEPT).iterdir())


def test_what_is_there_is_not_made_again(sweep_of):
    sweep_of(0)[0].make(Measured())
    assert sweep_of(1)[0].take() is not None
    sweep, out = sweep_of(0)
    out.unlink()
    measure = Measured()
    sweep.make(measure)
    assert measure.iats == [500.0]


def test_an_interrupt_leaves_what_is_complete(sweep_of):
    sweep, out = sweep_of(0)
    with pytest.raises(KeyboardInterrupt):
        sweep.make(Measured(3, KeyboardInterrupt()))
    assert not out.exists()
    assert sweep_of(0)[0].take() is not None
    assert sweep_of(1)[0].take() is not None
    assert sweep_of(2)[0].take() is None


def test_a_failure_of_another_run_is_not_this_ones(sweep_of, capsys):
    sweep, out = sweep_of(0)
    sweep.make(Measured(2, PaellaError("too hot")))
    assert out.is_file()
    assert capsys.readouterr().err.endswith("iat800.parquet: too hot\n")
    sweep, _ = sweep_of(1)
    with pytest.raises(PaellaError, match="too hot"):
        sweep.make(Measured(1, PaellaError("too hot")))


def test_another_configuration_or_engine_or_plan_is_not_taken(sweep_of, monkeypatch):
    sweep, out = sweep_of(0)
    sweep.make(Measured())
    assert sweep_of(1, seed=2)[0].take() is None
    assert sweep_of(1, overrides={"cap": "5"})[0].take() is None
    with monkeypatch.context() as patch:
        patch.setattr(specification, "engine_build", lambda: "another")
        assert sweep_of(1)[0].take() is None
    assert sweep_of(1)[0].take() is not None
    plan = out.parent / "plans" / "resnet18" / "plan.json"
    plan.parent.mkdir(parents=True)
    plan.touch()
    assert sweep_of(2)[0].take() is None


def test_a_run_by_another_path_of_requests_is_not_taken(sweep_of):
    sweep_of(0)[0].make(Measured())
    assert sweep_of(1, way="server")[0].take() is None
    assert sweep_of(1)[0].take() is not None
