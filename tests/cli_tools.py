"""Commands of paella in a folder of their own."""

import pytest

from paella import cli


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every command runs in a folder of its own, so that what it leaves there is seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def paella(capsys):
    def run(*arguments, status=0):
        got = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert got == status, captured.err
        return captured.out if status == 0 else captured.err

    return run


RUN = ("run", "--jobs", "20", "--out", "run.parquet")
