"""The judge's one Celery task, which cpu workers load by its module's name; light to import.

A message carries a whole question. Lost or doubled it does no harm: verdicts have unique keys, and
the command that waits for them asks again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from celery import shared_task

if TYPE_CHECKING:
    from judge.judging import Judge, JudgeOptions

log = logging.getLogger("referee.judge")

JUDGE_TASK = "referee.judge"

_judges: dict[JudgeOptions, Judge] = {}
_lock = threading.Lock()


@shared_task(name=JUDGE_TASK)  # type: ignore[untyped-decorator] # celery has no types
def judge(ask: dict[str, Any]) -> None:
    """Ask a judge one question and store its verdicts; what goes wrong is logged, not raised."""
    from errors import RefereeError
    from judge.judging import question_from_json

    try:
        question = question_from_json(ask)
        _judge_for(question.options).answer(question)
    except (RefereeError, ValueError) as error:
        log.warning("%s", error, extra={"about": {"action": "judge failed", "reason": str(error)}})


def _judge_for(options: JudgeOptions) -> Judge:
    """One connection a judge and process; papers' texts go nowhere that is not allowed here."""
    from db.session import open_database
    from judge.judging import Judge
    from settings import get_settings

    with _lock:
        if options not in _judges:
            settings = get_settings()
            _judges[options] = Judge(open_database(settings.database), settings, options)
        return _judges[options]
