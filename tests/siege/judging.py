"""A siege of judge jobs: a comparison, a slow judge, and checks of the verdicts."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import select

from db.comparisons import Comparison, Side, add_papers, candidates, open_comparison
from db.matches import MatchedPaper, store_matched
from db.schema import Job, JobEvent
from db.schema_judging import Verdict
from db.session import Database
from judge.comparing import extract_points
from judge.judges import register_judge
from judge.judging import JudgeOptions, JudgeQuestion, pending
from judge.point_extraction import ParsedPoints
from judge.question_queue import queue_questions
from settings import Settings
from tests.chat_server import ChatServer, fuller_review_wins, serve_chat
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS, reviewer, write
from tests.siege import plan
from tests.siege.books import Attempt, InvariantReport

#: Questions that one worker has with the judge at the same time; it claims more.
CONCURRENCY = 2

#: The sizes of reviews with fewer papers, none of which ends a worker, and without a new version of
#: the reviewer.
FULL = replace(plan.FULL, papers=150, poison=0, deadly=0, cancel=2, promote=0)
SHORT = replace(plan.SHORT, papers=40, poison=0, deadly=0, cancel=1, promote=0)


class Asked(NamedTuple):
    """Identity of a question, for the judge and for the database."""

    custom_id: str
    shown_first: str
    repetition: int


@dataclass
class SlowJudge:
    """Answers after a delay, like a model, and records the questions."""

    seed: int
    asked: list[Asked] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> str:
        """Answer after the question's delay, which is the same when it is asked again."""
        text = body["messages"][-1]["content"]
        first = text.split("\n\nReview A\n")[1].split("\n\nReview B\n")[0]
        (name,) = set(re.findall(r"about (p\d{5})\.", text))
        question = Asked(_custom_id(name), "a" if "by echo" in first else "b", body["seed"] // 1000)
        with self._lock:
            self.asked.append(question)
        time.sleep(plan.answer_seconds(random.Random(f"{self.seed} {question}")))
        return fuller_review_wins(body)


@contextmanager
def slow_judge(seed: int) -> Iterator[tuple[SlowJudge, ChatServer]]:
    """Serve until the block ends."""
    judge = SlowJudge(seed)
    with serve_chat(judge.answer) as server:
        # Its errors are expected: workers are killed while it answers them.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # of this server only
        yield judge, server


def submit(database: Database, settings: Settings, url: str, size: plan.Size) -> tuple[str, int]:
    """Store a comparison and queue its questions; return the batch's name and their number."""
    comparison = _store_comparison(database, size.papers)
    options = JudgeOptions(url, "some-judge", CONCURRENCY, requests_per_minute=60_000)
    questions: Sequence[JudgeQuestion] = pending(database, comparison, options)
    judge = register_judge(database, options.config)
    name = queue_questions(database, settings, comparison, judge, options, questions)
    return name, len(questions)


def _store_comparison(database: Database, n_papers: int) -> Comparison:
    a, b, people = (reviewer(database, name) for name in ("echo", "noise", "people"))
    for i in range(n_papers):
        name = f"p{i:05}"
        mark = ("Subject", f"This is about {name}.")
        write(database, people, name, *POINTS, mark)
        write(database, a, name, *ECHOES, ("Name", f"Written by echo about {name}."))
        write(database, b, name, *NOISE[:1], ("Name", f"Written by noise about {name}."))
    found = candidates(database, Side(a), Side(b), people)
    made = open_comparison(database, a, b, people, {"extractor": "parsed"})
    add_papers(database, made, found)
    reviews = {r for p in found for r in (p.a_review, p.b_review, *p.reference_reviews)}
    extract_points(database, ParsedPoints(), reviews)
    store_matched(database, made.id, [MatchedPaper(p.paper_id, (), (), ()) for p in found])
    return made


def _custom_id(paper: str) -> str:
    return sha256(paper.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class JudgeRecord:
    """The data that is checked. `claims` holds the attempts of each job, by its question;
    `verdicts` the questions of all whole-review verdicts."""

    n_questions: int
    states: Mapping[Asked, str]
    claims: Mapping[Asked, Sequence[Attempt]]
    verdicts: Sequence[Asked]
    asked: Sequence[Asked]
    interrupted: Sequence[frozenset[Attempt]]


def read_record(
    database: Database,
    n_questions: int,
    asked: Sequence[Asked],
    interrupted: Sequence[frozenset[Attempt]],
) -> JudgeRecord:
    """Read the database after a siege."""
    states, claims, by_paper = {}, defaultdict(list), {}
    with database.read() as on:
        jobs = on.execute(select(Job.id, Job.paper_id, Job.custom_id, Job.about, Job.state)).all()
        by_job = {
            job.id: Asked(job.custom_id, job.about["shown_first"], job.about["repetition"])
            for job in jobs
        }
        states = {by_job[job.id]: job.state for job in jobs}
        by_paper = {job.paper_id: job.custom_id for job in jobs}
        events = select(JobEvent.job_id, JobEvent.attempt).where(JobEvent.kind == "claimed")
        for job, attempt in on.execute(events.order_by(JobEvent.id)):
            claims[by_job[job]].append(Attempt(job, attempt))
        whole = select(Verdict.paper_id, Verdict.shown_first, Verdict.repetition)
        verdicts = [
            Asked(by_paper[paper], first, repetition)
            for paper, first, repetition in on.execute(whole.where(Verdict.aspect.is_(None)))
        ]
    return JudgeRecord(n_questions, states, claims, verdicts, list(asked), interrupted)


def check_verdicts(record: JudgeRecord) -> InvariantReport:
    """Every question has one verdict or was cancelled, and was asked again only after a loss."""
    interrupted = frozenset[Attempt]().union(*record.interrupted)
    n_verdicts, n_asked = Counter(record.verdicts), Counter(record.asked)
    done = {question for question, state in record.states.items() if state == "succeeded"}
    lost = [*(done - n_verdicts.keys())]
    doubled = [question for question, n in n_verdicts.items() if n > 1]
    stuck = [q for q, state in record.states.items() if state in ("queued", "running")]
    struck = {q: len(interrupted.intersection(held)) for q, held in record.claims.items()}
    again = {q: n - 1 for q, n in n_asked.items() if n > 1}
    violations = [
        *(f"lost: {question}" for question in lost),
        *(f"doubled: {question}" for question in doubled),
        *(f"stuck: {question}" for question in stuck),
        *(f"verdict without a job's end: {question}" for question in n_verdicts.keys() - done),
        *(
            f"wrong end: {question} {state}"
            for question, state in record.states.items()
            if state not in ("succeeded", "cancelled", "queued", "running")
        ),
        *(
            f"asked again {n} times for {struck.get(q, 0)} losses: {q}"
            for q, n in again.items()
            if n > struck.get(q, 0)
        ),
    ]
    if len(record.states) != record.n_questions:
        violations.append(f"{len(record.states)} jobs for {record.n_questions} questions")
    n_again = sum(again.values())
    return InvariantReport(
        states=dict(Counter(record.states.values())),
        reviews=len(record.verdicts),
        lost=len(lost),
        doubled=len(doubled),
        stuck=len(stuck),
        starts=len(record.asked),
        starts_by_purpose={"verdict": len(record.asked) - n_again, "struck": n_again},
        wasted=n_again,
        in_flight_when_struck=sum(map(len, record.interrupted)),
        violations=violations,
    )
