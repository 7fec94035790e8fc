"""Options of the whole suite: tests that must not skip, and tests with the fake CUDA driver.

Tests marked fake_driver run in a process of their own, with the fake CUDA driver in it.

A process has one driver, which it loads at its first use and never changes: so each of these tests
is forked from the process that pytest runs in, which has none loaded. Tests marked gpu, which load
the real one, come last.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import fake_driver
import pytest
from _pytest.runner import runtestprotocol

REQUIRED = os.environ.get("PAELLA_REQUIRED_TESTS", "")  # a mark, whose tests must not skip
LIMIT_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("gpu") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if item.get_closest_marker("fake_driver") is None:
        return None
    try:
        library = _library(item.config)
    except pytest.skip.Exception as e:
        item.add_marker(pytest.mark.skip(reason=str(e)))
        return None
    hooks = item.ihook
    hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports_of_a_fork(item, nextitem, library):
        hooks.pytest_runtest_logreport(report=report)
    # In this process, too, nothing may stay that the next test does not share.
    item.session._setupstate.teardown_exact(nextitem)
    hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _reports_of_a_fork(
    item: pytest.Item, nextitem: pytest.Item | None, library: str
) -> list[pytest.TestReport]:
    hooks = item.config.hook
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads: the child uses none of their locks
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.environ |= {"PAELLA_LIBCUDA": library, "FAKE_CUDA_LAZY": "1", "FAKE_CUDA_LOG": "1"}
            os.environ["FAKE_CUDA_ATTRIBUTES"] = fake_driver.attributes()
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            data = [
                hooks.pytest_report_to_serializable(config=item.config, report=r) for r in reports
            ]
            with os.fdopen(writing, "w") as pipe:
                json.dump(data, pipe, default=str)
            status = 0
        finally:
            os._exit(status)  # nothing of the parent is tidied up here
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        ended = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", f"its process ended with {status}", "call"
        )
        return [ended]
    return [
        hooks.pytest_report_from_serializable(config=item.config, data=data)
        for data in json.loads(text)
    ]


_built: dict[str, str] = {}


def _library(config: pytest.Config) -> str:
    if "path" not in _built:
        folder = Path(config._tmp_path_factory.mktemp("fake_driver"))  # type: ignore[attr-defined]
        _built["path"] = fake_driver.build(folder)
    return _built["path"]


@pytest.fixture
def gpu() -> Iterator[None]:
    """For tests marked fake_driver: nothing may be left in the driver but the context."""
    yield
    assert fake_driver.handles() <= 1


# ---- tests that must not skip


def failing(report):
    """The report of a skip, made that of a failure."""
    _, _, reason = report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} is required, and skips. {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A module that skips as a whole has no marks yet: its text says which it would have."""
    report = yield
    required = REQUIRED and isinstance(collector, pytest.Module)
    if required and report.skipped and f"pytest.mark.{REQUIRED}" in collector.path.read_text():
        return failing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    skips = report.skipped and not hasattr(report, "wasxfail")
    if REQUIRED and skips and item.get_closest_marker(REQUIRED):
        return failing(report)
    return report
