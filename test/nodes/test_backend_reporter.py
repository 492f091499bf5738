"""What operators are told of a backend: the log once at each change, the diagnostics always."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("diagnostic_msgs", reason="no ROS 2 in this environment")

from diagnostic_msgs.msg import DiagnosticStatus

from sdcpc_ros.inference import BackendStatus
from sdcpc_ros.nodes.diagnostics import BackendReporter


class Log(list):
    """Lines, each begun with its severity."""

    def __getattr__(self, severity):
        return lambda text: self.append(f"{severity}: {text}")


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def report(log):
    """Reports on a segmenter in these states, one after the other; returns the last."""
    segmenter = SimpleNamespace(backend="aot", failed_batches=0, batching_disabled_reason="")
    reporter = BackendReporter(segmenter, log)

    def report(*statuses):
        for state, text in statuses:
            segmenter.backend_status = BackendStatus(state, text)
            last = reporter.report()
        return last

    return report


def test_a_backend_that_is_there_is_not_worth_a_word(report, log):
    assert report(("ready", "eager"), ("ready", "eager")) == (DiagnosticStatus.OK, "")
    assert log == []


def test_a_build_is_announced_and_its_end_too(report, log):
    level, words = report(("building", "eager, while (0 s)"), ("building", "eager, while (1 s)"))
    assert (level, words) == (DiagnosticStatus.OK, "eager, while (1 s)")
    assert log == ["info: backend: eager, while (0 s)"]
    assert report(("ready", "aot")) == (DiagnosticStatus.OK, "")
    assert len(log) == 2 and log[1] == "info: backend: aot runs from now on, 0 s later"


@pytest.mark.parametrize(
    ("state", "level", "severity"),
    [("fallback", DiagnosticStatus.WARN, "warning"), ("failed", DiagnosticStatus.ERROR, "error")],
)
def test_what_is_missing_is_said_once_and_shown_on(report, log, state, level, severity):
    missing = (state, "no compiler here")
    assert report(missing, missing, missing) == (level, "no compiler here")
    assert log == [f"{severity}: backend: no compiler here"]


def test_a_failed_batch_is_a_warning_once(log):
    segmenter = SimpleNamespace(backend="eager", backend_status=BackendStatus("ready", "eager"), failed_batches=0)
    reporter = BackendReporter(segmenter, log)
    assert reporter.report() == (DiagnosticStatus.OK, "")
    segmenter.failed_batches, segmenter.batching_disabled_reason = (
        1,
        "one by one for 9 s more, as a batch failed: no room",
    )
    assert reporter.report() == (DiagnosticStatus.WARN, segmenter.batching_disabled_reason)
    assert reporter.report() == (DiagnosticStatus.OK, "")
    assert log == [f"warning: backend: frames are run {segmenter.batching_disabled_reason}"]
