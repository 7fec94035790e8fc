"""benchmarks/paired.py: its table, and its errors. The times themselves are not tested."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import paired


def test_pairs_are_measured_in_turn(monkeypatch, capsys):
    monkeypatch.setattr(paired, "SYSTEMS", ["CUDA-MS"])
    options = ["--jobs", "100", "--calls", "1", "--repetitions", "1"]
    paired.main([sys.executable, sys.executable, *options])
    rows = capsys.readouterr().out.splitlines()[4:]
    assert rows[0].split()[0] == "CUDA-MS"
    assert all(float(cell) > 0 for cell in rows[0].split()[1:])
    assert rows[1].startswith("Median of all 1 ratios after/before: ")


def test_a_measurement_that_fails_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(paired, "SYSTEMS", ["no-such"])
    with pytest.raises(SystemExit):
        paired.main([sys.executable, sys.executable])
    assert "no-such: paella.errors.ConfigError: unknown system" in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(capsys):
    for options, message in (
        (["--repetitions", "0"], "--repetitions and --calls must be at least 1"),
        (["--jobs", "10"], "--jobs must be at least 100, or the engine's time is lost in the rest"),
    ):
        with pytest.raises(SystemExit) as refused:
            paired.main([sys.executable, sys.executable, *options])
        assert refused.value.code == 2
        assert capsys.readouterr().err.endswith(f"error: {message}\n")
