"""Log records: the standard fields, and the job that a record is about."""

from __future__ import annotations

import json
import logging

import pytest

from worker.logs import JsonFormatter, KeyValueFormatter

LAYOUT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def record(created: float, **about: object) -> logging.LogRecord:
    made = logging.LogRecord("referee.worker", logging.INFO, "", 0, "%s", ("commit",), None)
    made.created, made.msecs = created, int(created % 1 * 1000) + 0.0
    made.about = about
    return made


@pytest.mark.parametrize("moments", [[0.0, 0.25, 0.999, 1.0], [1795641611.5, 1795641670.007, 3.0]])
def test_time_equals_the_standard_librarys_format(moments: list[float]) -> None:
    ours, theirs = KeyValueFormatter(LAYOUT), logging.Formatter(LAYOUT)
    for moment in moments:
        line = record(moment)
        assert ours.format(line).rstrip() == theirs.format(line)


def test_log_line_names_its_job() -> None:
    line = record(1.0, action="commit", job=7, custom_id="a b")
    assert KeyValueFormatter(LAYOUT).format(line).endswith("action='commit' job=7 custom_id='a b'")
    formatter = JsonFormatter()
    formatter.identity = {"worker": "w0", "gpu": "0"}
    document = json.loads(formatter.format(line))
    assert (document["job"], document["gpu"], document["message"]) == (7, "0", "commit")
