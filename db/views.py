"""Views for analysts, recreated by every upgrade.

Times are ISO 8601 text in UTC. docs/sql.md explains each view with a query that a test runs.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from db.flags import CANARY_ONE_IN, CANARY_PAPERS, REJECTED
from papers.paper import HIDDEN_TEXT

#: A row for each job of a review: the job that generated it, and its duplicates.
_REVIEW_JOB = """
    SELECT review.id AS review_id, job.id AS job_id, job.batch_id, job.custom_id, job.sample
    FROM review JOIN job ON job.id = review.job_id
    UNION ALL
    SELECT review.id, job.id, job.batch_id, job.custom_id, job.sample
    FROM review JOIN job ON job.duplicate_of = review.job_id AND job.state = 'succeeded'
    UNION ALL
    SELECT review.id, NULL, NULL, NULL, NULL FROM review WHERE review.job_id IS NULL
"""

_REVIEW_FLAT = f"""
SELECT batch.name AS batch, of.custom_id, of.sample, paper.id AS paper_id,
       paper.sha256 AS paper_sha256, paper.title, paper.venue, paper.year, paper.decision,
       reviewer.name AS reviewer, reviewer.version, review.id AS review_id, review.external_id,
       review.adapter_sha256, review.seed, review.finish, review.truncated_tokens,
       {{created_at}} AS reviewed_at,
       item.aspect, item.position, item.title AS item_title, item.text AS item_text
FROM ({_REVIEW_JOB}) AS of
JOIN review ON review.id = of.review_id
JOIN item ON item.review_id = review.id
JOIN paper ON paper.id = review.paper_id
JOIN reviewer ON reviewer.id = review.reviewer_id
LEFT JOIN batch ON batch.id = of.batch_id
"""

_BATCH_PROGRESS = """
SELECT batch.name AS batch, reviewer.name AS reviewer, reviewer.version,
       CASE WHEN batch.paused AND batch.state IN ('validating', 'in_progress') THEN 'paused'
            ELSE batch.state END AS state,
       count(job.id) AS total,
       count(CASE WHEN job.state = 'queued' THEN 1 END) AS queued,
       count(CASE WHEN job.state = 'running' THEN 1 END) AS running,
       count(CASE WHEN job.state = 'succeeded' THEN 1 END) AS succeeded,
       count(CASE WHEN job.state = 'failed' THEN 1 END) AS failed,
       count(CASE WHEN job.state = 'cancelled' THEN 1 END) AS cancelled,
       count(CASE WHEN job.state = 'expired' THEN 1 END) AS expired,
       count(CASE WHEN job.truncated_tokens > 0 THEN 1 END) AS truncated_papers,
       coalesce(sum(job.n_prompt_tokens), 0) AS prompt_tokens,
       coalesce(sum(job.n_output_tokens), 0) AS output_tokens,
       {created_at} AS created_at, {finished_at} AS finished_at
FROM batch
JOIN reviewer ON reviewer.id = batch.reviewer_id
LEFT JOIN job ON job.batch_id = batch.id
GROUP BY batch.id, reviewer.id
"""

_ASPECT_STATISTICS = """
SELECT reviewer.name AS reviewer, reviewer.version, counted.aspect,
       count(*) AS reviews,
       sum(counted.n) AS items,
       avg(counted.n * 1.0) AS items_a_review,
       avg(counted.n * counted.n * 1.0) - avg(counted.n * 1.0) * avg(counted.n * 1.0)
           AS items_variance,
       avg(CASE WHEN counted.n = 0 THEN 1.0 ELSE 0.0 END) AS empty_share
FROM (
    SELECT item.review_id, item.aspect, count(*) AS n FROM item GROUP BY item.review_id, item.aspect
    UNION ALL
    SELECT review.id, empty.value, 0 FROM review, {each_empty} AS empty
) AS counted
JOIN review ON review.id = counted.review_id
JOIN reviewer ON reviewer.id = review.reviewer_id
GROUP BY reviewer.id, reviewer.name, reviewer.version, counted.aspect
"""

#: A paper judged in both orders counts once: a win in both is a win; a win and a tie, or two
#: contradicting verdicts, are a tie. One unreadable answer makes the paper invalid; a paper
#: judged in one order only is left out (judge.win_rates.complete).
_PK_SUMMARY = """
SELECT comparison.id AS comparison, a.name AS a, a.version AS a_version, b.name AS b,
       b.version AS b_version, r.name AS reference, r.version AS reference_version,
       judged.method, judged.aspect,
       count(CASE WHEN judged.invalid = 0 THEN 1 END) AS papers,
       count(CASE WHEN judged.invalid = 0 AND judged.net = judged.verdicts THEN 1 END) AS win,
       count(CASE WHEN judged.invalid = 0 AND abs(judged.net) < judged.verdicts THEN 1 END) AS tie,
       count(CASE WHEN judged.invalid = 0 AND judged.net = -judged.verdicts THEN 1 END) AS lose,
       count(CASE WHEN judged.inconsistent = 1 THEN 1 END) AS inconsistent,
       count(CASE WHEN judged.invalid = 1 THEN 1 END) AS invalid
FROM (
    SELECT comparison_id, paper_id, method, aspect, count(*) AS verdicts,
           max(CASE outcome WHEN 'invalid' THEN 1 ELSE 0 END) AS invalid,
           max(CASE outcome WHEN 'win' THEN 1 ELSE 0 END)
               * max(CASE outcome WHEN 'lose' THEN 1 ELSE 0 END) AS inconsistent,
           sum(CASE outcome WHEN 'win' THEN 1 WHEN 'lose' THEN -1 ELSE 0 END) AS net
    FROM verdict WHERE repetition = 0 GROUP BY comparison_id, paper_id, method, aspect
    HAVING count(DISTINCT shown_first) = 2
        OR max(CASE WHEN shown_first = 'neither' OR outcome = 'invalid' THEN 1 ELSE 0 END) = 1
) AS judged
JOIN comparison ON comparison.id = judged.comparison_id
JOIN reviewer AS a ON a.id = comparison.a_id
JOIN reviewer AS b ON b.id = comparison.b_id
JOIN reviewer AS r ON r.id = comparison.reference_id
GROUP BY comparison.id, a.id, b.id, r.id, judged.method, judged.aspect
"""

#: Hidden words that several papers of a batch share, with the batch's number of papers; the rule
#: is that of db.flags.is_canary. A rejected paper is not stored and has its custom_id only.
_FLAG_LIST = f"""
SELECT batch.name AS batch, job.custom_id, job.sample, job.source, job.paper_id,
       paper.sha256 AS paper_sha256, job.state, job_flag.kind, job_flag.detail, job_flag.page,
       job_flag.text, coalesce(shared.papers, 0) AS papers, shared.papers IS NOT NULL AS canary
FROM job_flag
JOIN job ON job.id = job_flag.job_id
JOIN batch ON batch.id = job.batch_id
LEFT JOIN paper ON paper.id = job.paper_id
LEFT JOIN (
    SELECT same.batch_id, same.words_sha256, same.papers
    FROM (
        SELECT job.batch_id, job_flag.words_sha256,
               count(DISTINCT {{paper}}) AS papers
        FROM job_flag JOIN job ON job.id = job_flag.job_id
        WHERE job_flag.kind = '{HIDDEN_TEXT}' AND job_flag.words_sha256 IS NOT NULL
        GROUP BY job.batch_id, job_flag.words_sha256
        HAVING count(DISTINCT {{paper}}) >= {CANARY_PAPERS}
    ) AS same
    JOIN (
        SELECT job.batch_id, count(DISTINCT {{paper}}) AS papers FROM job
        WHERE job.paper_id IS NOT NULL OR job.error_kind = '{REJECTED}' GROUP BY job.batch_id
    ) AS whole ON whole.batch_id = same.batch_id
    WHERE same.papers * {CANARY_ONE_IN} >= whole.papers
) AS shared ON shared.batch_id = job.batch_id AND shared.words_sha256 = job_flag.words_sha256
"""
_PAPER = "coalesce(CAST(job.paper_id AS text), 'rejected ' || job.custom_id)"

_ISO = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%SZ', {0}, 'unixepoch')",
    "postgresql": "to_char(to_timestamp({0}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
}
_EACH_EMPTY = {
    "sqlite": "json_each(review.empty_aspects)",
    "postgresql": "LATERAL jsonb_array_elements_text(review.empty_aspects)",
}


def view_definitions(dialect: str) -> dict[str, str]:
    """{view: its SELECT in this dialect}."""
    iso = _ISO[dialect]
    return {
        "review_flat": _REVIEW_FLAT.format(created_at=iso.format("review.created_at")),
        "batch_progress": _BATCH_PROGRESS.format(
            created_at=iso.format("batch.created_at"), finished_at=iso.format("batch.finished_at")
        ),
        "aspect_statistics": _ASPECT_STATISTICS.format(each_empty=_EACH_EMPTY[dialect]),
        "pk_summary": _PK_SUMMARY,
        "flag_list": _FLAG_LIST.format(paper=_PAPER),
    }


def create_views(on: Connection) -> None:
    """Create all views, none of which may exist."""
    for name, select in view_definitions(on.dialect.name).items():
        on.exec_driver_sql(f"CREATE VIEW {name} AS {select}")


def drop_views(on: Connection) -> None:
    """Drop all views that exist."""
    for name in view_definitions(on.dialect.name):
        on.execute(text(f"DROP VIEW IF EXISTS {name}"))


def missing_views(on: Connection) -> list[str]:
    """A sentence for each view that does not exist."""
    there = set(inspect(on).get_view_names())
    return [
        f"view {name} is missing" for name in view_definitions(on.dialect.name) if name not in there
    ]
