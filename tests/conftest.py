"""Options of the whole suite."""

import os

import pytest

REQUIRED = os.environ.get("PAELLA_REQUIRED_TESTS", "")  # a mark, whose tests must not skip


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
