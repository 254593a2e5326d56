"""Every rule of the schema refuses a row that breaks it, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Connection, Index, UniqueConstraint, insert
from sqlalchemy.exc import IntegrityError

from db import migrate
from db.session import Database

HASH = "a" * 64

#: A valid row for each table; rows that it refers to have id 1 or 2.
VALID: dict[str, dict[str, Any]] = {
    "paper": {
        "sha256": HASH,
        "title": "t",
        "abstract": "a",
        "body": "b",
        "sections": [],
    },
    "purged_paper": {"paper_id": 1},
    "reviewer": {
        "name": "r",
        "version": 1,
        "sha256": "s",
        "kind": "local",
        "queue": "q",
        "config": {},
    },
    "batch": {
        "name": "b",
        "reviewer_id": 1,
        "priority": 1,
        "samples": 1,
        "allow_external": False,
        "options_sha256": "s",
    },
    "open_submit": {"batch_id": 1, "lease_until": 0.0},
    "job": {
        "batch_id": 1,
        "custom_id": "c",
        "sample": 0,
        "source": "f",
        "paper_id": 1,
        "queue": "q",
        "reviewer_id": 1,
        "priority": 1,
        "seed": 1,
        "state": "queued",
    },
    "job_flag": {
        "job_id": 1,
        "position": 0,
        "kind": "hidden_text",
        "detail": "tiny",
        "text": "words",
    },
    "job_event": {"job_id": 1, "attempt": 0, "kind": "k"},
    "review": {
        "paper_id": 1,
        "reviewer_id": 1,
        "job_id": 1,
        "external_id": "e",
        "raw": "r",
        "empty_aspects": [],
        "gate": [],
        "versions": {},
        "finish": "stop",
        "n_prompt_tokens": 1,
        "n_output_tokens": 1,
        "truncated_tokens": 1,
    },
    "item": {"review_id": 1, "aspect": "idea", "position": 0, "title": "t", "text": "x"},
    "worker_node": {
        "name": "w",
        "host": "h",
        "pid": 1,
        "gpu": "0",
        "queue": "q",
        "base": "b",
        "slots": 1,
        "code_version": "1",
    },
    "adapter": {"sha256": HASH, "name": "a", "base": "b", "config": {}},
    "adapter_chunk": {"adapter_id": 1, "position": 0, "data": b"x"},
    "adapter_paper": {"adapter_id": 1, "paper_sha256": HASH},
    "training_run": {"name": "t", "config": {}, "dataset_sha256": "s"},
    "training_metric": {"run_id": 1, "step": 0, "name": "loss", "value": 1.0},
    "point": {"review_id": 1, "extractor": "x", "position": 0, "text": "t"},
    "comparison": {
        "a_id": 1,
        "b_id": 2,
        "reference_id": 1,
        "config": {},
        "config_sha256": "s",
    },
    "point_match": {
        "comparison_id": 1,
        "reference_point_id": 1,
        "generated_point_id": 1,
        "matcher": "m",
        "similarity": 7.0,
        "matched": True,
    },
    "compared_paper": {
        "comparison_id": 1,
        "paper_id": 1,
        "a_review_id": 1,
        "b_review_id": 1,
        "reference_review_ids": [1],
    },
    "match_count": {
        "comparison_id": 1,
        "paper_id": 1,
        "role": "a",
        "cut": "full",
        "generated_review_id": 1,
        "reference_review_id": 1,
        "n_reference": 3,
        "n_generated": 2,
        "hits_reference": 1,
        "hits_generated": 1,
        "n_pairs": 1,
    },
    "split_use": {"split": "test", "comparison_id": 1},
    "verdict": {
        "comparison_id": 1,
        "paper_id": 1,
        "method": "match",
        "aspect": "idea",
        "shown_first": "a",
        "outcome": "win",
    },
    "origin": {"source": "s", "source_id": "p", "paper_id": 1, "licence": "none stated"},
    "data_flag": {
        "paper_id": 1,
        "review_id": 1,
        "rule": "empty_review",
        "excludes": True,
        "detail": {},
    },
    "job_input": {"job_id": 1, "sha256": HASH, "text": "t"},
}

#: A violation of each rule: {constraint: columns to change in a valid row}.
BREACHES: dict[str, dict[str, Any]] = {
    "ck_paper_sha256": {"sha256": "short"},
    "ck_reviewer_kind": {"kind": "oracle"},
    "ck_reviewer_version": {"version": 0},
    "ck_batch_name": {"name": ""},
    "ck_batch_state": {"state": "lost"},
    "ck_batch_priority": {"priority": 3},
    "ck_batch_samples": {"samples": 0},
    "ck_job_state": {"state": "lost", "finished_at": 1.0},
    "ck_job_custom_id": {"custom_id": ""},
    "ck_job_sample": {"sample": -1},
    "ck_job_priority": {"priority": -1},
    "ck_job_seed": {"seed": -1},
    "ck_job_crashes": {"crashes_alone": 1},
    "ck_job_attempt": {"attempt": 1, "given_back": 2},
    "ck_job_paper": {"paper_id": None},
    "ck_job_lease": {"lease_until": 1.0},
    "ck_job_worker": {"state": "running", "lease_until": 1.0},
    "ck_job_error": {"error_kind": "attempts"},
    "ck_job_finished": {"finished_at": 1.0},
    "ck_job_cancel": {"cancel_requested": True},
    "ck_job_duplicate": {"duplicate_of": 1, "state": "running", "worker": "w", "lease_until": 1.0},
    "ck_review_finish": {"finish": "tired"},
    "ck_review_tokens": {"n_prompt_tokens": -1},
    "ck_job_flag_position": {"position": -1},
    "ck_item_position": {"position": -1},
    "ck_worker_node_state": {"state": "asleep"},
    "ck_worker_node_slots": {"slots": -1},
    "ck_worker_node_give_back": {"state": "active", "give_back_at": 1.0},
    "ck_adapter_sha256": {"sha256": "short"},
    "ck_adapter_state": {"state": "lost"},
    "ck_adapter_chunk_size": {"data": b"x" * (1024 * 1024 + 1)},
    "ck_adapter_chunk_position": {"position": -1},
    "ck_adapter_paper_paper_sha256": {"paper_sha256": "short"},
    "ck_training_run_state": {"state": "lost"},
    "ck_training_metric_step": {"step": -1},
    "ck_point_position": {"position": -1},
    "ck_compared_paper_excluded": {"excluded": "boring"},
    "ck_compared_paper_matched": {"excluded": "trained_hash", "matched_at": 1.0},
    "ck_match_count_role": {"role": "c"},
    "ck_match_count_cut": {"cut": "half"},
    "ck_match_count_reference": {"hits_reference": 4},
    "ck_match_count_generated": {"hits_generated": 3},
    "ck_match_count_pairs": {"n_pairs": 2},
    "ck_verdict_repetition": {"repetition": -1},
    "ck_point_match_similarity": {"similarity": 10.5},
    "ck_point_match_votes": {"votes": -1},
    "ck_verdict_outcome": {"outcome": "draw"},
    "ck_verdict_shown_first": {"shown_first": "c"},
    "ck_origin_source": {"source_id": ""},
    "ck_data_flag_rule": {"rule": ""},
    "ck_job_input_sha256": {"sha256": "short"},
}

#: Columns to change so that a second row violates only the UNIQUE rule under test.
APART: dict[str, dict[str, Any]] = {
    "uq_reviewer_name_version": {"sha256": "other"},
    "uq_reviewer_name_sha256": {"version": 9},
    "uq_job_batch_id_custom_id_sample": {"paper_id": 2},
    "uq_job_original": {"custom_id": "other"},
    "uq_review_job_id": {"external_id": "other"},
    "uq_review_reviewer_id_paper_id_external_id": {"job_id": 2},
    "uq_verdict_whole": {"aspect": None},
    "uq_data_flag_paper": {"review_id": None},
    "uq_match_count_union": {"reference_review_id": None},
}

#: Columns to change so that a row violates no UNIQUE rule.
FRESH: dict[str, dict[str, Any]] = {
    "paper": {"sha256": "f" * 64},
    "purged_paper": {"paper_id": 2},
    "reviewer": {"name": "fresh"},
    "batch": {"name": "fresh"},
    "job": {"custom_id": "fresh", "sample": 1},
    "review": {"job_id": None, "external_id": "fresh"},
    "item": {"aspect": "fresh"},
    "worker_node": {"name": "fresh"},
    "adapter": {"sha256": "f" * 64},
    "adapter_chunk": {"position": 1},
    "adapter_paper": {"paper_sha256": "f" * 64},
    "training_run": {"name": "fresh"},
    "training_metric": {"step": 1},
    "point": {"extractor": "fresh"},
    "comparison": {"config_sha256": "fresh"},
    "point_match": {"matcher": "fresh"},
    "verdict": {"aspect": "fresh"},
    "origin": {"source_id": "fresh"},
    "data_flag": {"rule": "fresh"},
    "job_input": {"job_id": 2},
    "compared_paper": {"paper_id": 2},
    "match_count": {"role": "b"},
    "split_use": {"split": "fresh"},
}

#: Tables whose rows have a number.
NUMBERED = {table.name for table in migrate.metadata().sorted_tables if "id" in table.columns}


def unique_rules() -> list[tuple[str, str, tuple[str, ...]]]:
    """All UNIQUE constraints and unique indexes as (table, name, columns)."""
    found = []
    for table in migrate.metadata().sorted_tables:
        rules: list[UniqueConstraint | Index] = [
            rule for rule in table.constraints if isinstance(rule, UniqueConstraint)
        ]
        rules += [index for index in table.indexes if index.unique]
        for rule in rules:
            columns = tuple(column.name for column in rule.columns)
            found.append((table.name, str(rule.name), columns))
    return sorted(found)


def foreign_keys() -> list[tuple[str, str]]:
    """All columns that refer to another row, as (table, column)."""
    return sorted(
        (table.name, key.parent.name)
        for table in migrate.metadata().sorted_tables
        for key in table.foreign_keys
    )


def put(on: Connection, table: str, **columns: Any) -> None:
    """Insert a valid row with these columns changed."""
    on.execute(insert(migrate.metadata().tables[table]), {**VALID[table], **columns})


@pytest.fixture
def populated(database: Database) -> Database:
    """A database with the valid row in every table, and those that rows refer to as 1 and 2."""
    tables = [table.name for table in migrate.metadata().sorted_tables]
    with database.write() as on:
        put(on, "paper", id=1)
        put(on, "paper", id=2, sha256="b" * 64)
        put(on, "reviewer", id=1)
        put(on, "reviewer", id=2, name="r2")
        put(on, "batch", id=1)
        put(on, "job", id=1)
        put(on, "job", id=2, custom_id="c2", paper_id=2)
        for table in tables:
            if table not in ("paper", "reviewer", "batch", "job"):
                put(on, table, **({"id": 1} if table in NUMBERED else {}))
        put(on, "verdict", id=2, aspect=None)
        put(on, "data_flag", id=2, review_id=None)
        put(on, "match_count", id=2, reference_review_id=None)
    return database


def table_of(constraint: str) -> str:
    """The table whose constraint this is."""
    for table in migrate.metadata().sorted_tables:
        if constraint in {str(rule.name) for rule in table.constraints}:
            return table.name
    raise AssertionError(f"no table has the constraint {constraint}")


def test_every_check_has_a_breach_here() -> None:
    rules = {
        str(rule.name)
        for table in migrate.metadata().sorted_tables
        for rule in table.constraints
        if isinstance(rule, CheckConstraint)
    }
    assert rules == set(BREACHES)


@pytest.mark.parametrize("constraint", sorted(BREACHES))
def test_a_check_refuses_its_breach(populated: Database, constraint: str) -> None:
    table = table_of(constraint)
    columns = {**FRESH.get(table, {}), **BREACHES[constraint]}
    with pytest.raises(IntegrityError, match=constraint), populated.write() as on:
        put(on, table, **_numbered(table), **columns)


@pytest.mark.parametrize(("table", "name", "columns"), unique_rules())
def test_a_unique_rule_refuses_a_second_row(
    populated: Database, table: str, name: str, columns: tuple[str, ...]
) -> None:
    message = name if populated.dialect == "postgresql" else "UNIQUE.*" + columns[-1]
    with pytest.raises(IntegrityError, match=message), populated.write() as on:
        put(on, table, **_numbered(table), **APART.get(name, {}))


@pytest.mark.parametrize(("table", "column"), foreign_keys())
def test_a_foreign_key_refuses_a_row_without_its_parent(
    populated: Database, table: str, column: str
) -> None:
    columns = {**FRESH.get(table, {}), column: 99}
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), populated.write() as on:
        put(on, table, **_numbered(table), **columns)


def _numbered(table: str) -> dict[str, int]:
    """An id that no row has."""
    return {"id": 50} if table in NUMBERED else {}
