"""Reading of training sources: OpenReview v1 and v2, PeerRead, tables and pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from errors import UserError
from models.text.aspects import FOUR
from models.text.parsing import render
from models.text.review import Item
from papers.plain_text import read_text
from trainer.data import openreview_dump
from trainer.data.json_lines import score_of
from trainer.data.jsonl_sources import read_pairs, read_tables
from trainer.data.openreview_dump import choose_file, read_forums, source_paper, texts
from trainer.data.peerread import read_peerread
from trainer.data.source_import import detect
from trainer.data.source_records import Problem, SourcePaper
from trainer.data.venue_forms import load_forms

FORMS = load_forms()
DAY = 86_400_000


def v1(note_id: str, invitation: str, when: int, content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": note_id,
        "forum": "F1",
        "replyto": None if note_id == "F1" else "F1",
        "invitation": f"ICLR.cc/2020/Conference/{invitation}",
        "tcdate": when,
        "content": content,
        **more,
    }


V1 = [
    v1("F1", "-/Blind_Submission", 10 * DAY, {"title": "T", "abstract": "A"}, tmdate=90 * DAY)
    | {
        "details": {
            "directReplies": [
                v1(
                    "R1",
                    "Paper1/-/Official_Review",
                    30 * DAY,
                    {"review": "Good.", "rating": "6: ok"},
                ),
                v1("R2", "Paper1/-/Official_Review", 31 * DAY, {"review": "Bad.", "rating": "3"}),
                v1(
                    "C1",
                    "Paper1/-/Official_Comment",
                    50 * DAY,
                    {"comment": "We thank the reviewer."},
                    signatures=["ICLR.cc/2020/Conference/Paper1/Authors"],
                ),
                v1("C2", "Paper1/-/Public_Comment", 51 * DAY, {"comment": "Code?"}),
                v1("D1", "Paper1/-/Decision", 99 * DAY, {"decision": "Accept (Poster)"}),
            ]
        }
    },
    {"id": "E1", "referent": "F1", "invitation": "x/-/Revision", "tcdate": 12 * DAY, "content": {}},
    {"id": "E2", "referent": "F1", "invitation": "x/-/Revision", "tcdate": 60 * DAY, "content": {}},
]


def v2(note_id: str, invitation: str, when: int, **content: Any) -> dict[str, Any]:
    return {
        "id": note_id,
        "forum": "F1",
        "replyto": None if note_id == "F1" else "F1",
        "invitations": [f"ICLR.cc/2024/Conference/{invitation}", "ICLR.cc/2024/Conference/-/Edit"],
        "cdate": when,
        "content": {name: {"value": value} for name, value in content.items()},
    }


V2 = [
    v2("F1", "-/Submission", 10 * DAY, title="T"),
    v2(
        "R1",
        "Submission1/-/Official_Review",
        30 * DAY,
        summary="S.",
        strengths="Strong.",
        weaknesses="Weak.",
        questions="Why?",
        soundness="3 good",
        rating="8: accept",
        confidence=4,
    ),
    v2("M1", "Submission1/-/Meta_Review", 80 * DAY, metareview="Fine."),
    v2("D1", "Submission1/-/Decision", 99 * DAY, decision="Reject"),
]


def forum_of(notes: list[dict[str, Any]], tmp_path: Path) -> openreview_dump.Forum:
    file = tmp_path / "notes.jsonl"
    file.write_text("".join(json.dumps(note) + "\n" for note in notes))
    forums, problems = read_forums(file)
    assert problems == []
    return forums[0]


def test_notes_of_api_1_become_reviews_replies_comments_and_a_decision(tmp_path: Path) -> None:
    found = source_paper(forum_of(V1, tmp_path), read_text("T\n\nBody."), "why", FORMS)

    kinds = [(note.id, note.kind) for note in found.notes]
    assert kinds == [
        ("R1", "review"),
        ("R2", "review"),
        ("C1", "author_reply"),
        ("C2", "public_comment"),
        ("D1", "decision"),
    ]
    assert (found.decision, found.year) == ("Accept (Poster)", 2020)
    assert [note.rating for note in found.notes[:2]] == [6.0, 3.0]


def test_notes_of_api_2_keep_the_fields_of_their_form(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"notes": V2}))
    forums, _ = read_forums(tmp_path / "notes.json")

    found = source_paper(forums[0], read_text("T\n\nBody."), "why", FORMS)

    review = found.notes[0]
    assert dict(review.parts) == {
        "summary": "S.",
        "strengths": "Strong.",
        "weaknesses": "Weak.",
        "questions": "Why?",
    }
    assert (review.rating, review.confidence, found.decision) == (8.0, 4.0, "Reject")
    assert review.extra == {"soundness": "3 good"}
    assert [note.kind for note in found.notes] == ["review", "meta_review", "decision"]


@pytest.mark.parametrize(
    ("files", "chosen", "why"),
    [
        (["F1_E1", "F1_E2"], "F1_E1", "last version before the first review"),
        (["F1_E2"], "F1_E2", "anonymous submission"),
        (["F1"], "F1", "anonymous submission"),
    ],
)
def test_the_version_that_the_reviewers_saw_is_chosen(
    files: list[str], chosen: str, why: str, tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in files:
        (folder / f"{name}.md").write_text("# T\n\nBody.")

    choice = choose_file(forum_of(V1, tmp_path), texts(folder), FORMS)

    assert choice is not None
    assert (choice.version.content.stem, choice.why) == (chosen, why)


def test_possibly_later_version_is_recorded_as_unknown(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "F1.md").write_text("# T\n\nBody.")

    choice = choose_file(forum_of(V2, tmp_path), texts(folder), FORMS)

    assert choice is not None
    assert choice.why.startswith("unknown")


def reply(note_id: str, invitation: str, content: Any, **more: Any) -> dict[str, Any]:
    wrapped = {name: {"value": value} for name, value in content.items()}
    note = {"id": note_id, "forum": "F1", "replyto": "F1", "invitations": [f"X.org/{invitation}"]}
    return note | {"tcdate": 5 * DAY, "content": wrapped} | more


SUBMISSION = {"id": "F1", "forum": "F1", "invitations": ["X.org/-/Submission"], "content": {}}
LONG = "The second experiment lacks a baseline and its table has no spread."


@pytest.mark.parametrize(
    ("content", "parts", "rating", "confidence"),
    [
        (  # TMLR
            {
                "summary_of_contributions": LONG,
                "strengths_and_weaknesses": LONG,
                "requested_changes": LONG,
                "broader_impact_concerns": "None seen here.",
                "claims_and_evidence": "Yes",
                "audience": "Yes",
            },
            {"summary", "mixed", "suggestions", "limitations"},
            None,
            None,
        ),
        (  # a medical venue, which states its score twice
            {
                "Main Contribution": LONG,
                "Strong points": LONG,
                "Drawbacks of the study": LONG,
                "reproducibility": LONG,
                "Justification of rating": LONG,
                "preliminary_rating": "3: Weak accept, might change",
                "final_rating": "4/5",
                "reviewer_expertise": 2,
            },
            {"summary", "strengths", "weaknesses", "review"},
            4.0,
            2.0,
        ),
        (  # choices, confirmations and files are no text of a review
            {
                "review": LONG,
                "overall_score": -1,
                "your_confidence": "4 - fairly sure",
                "soundness": "3 good",
                "code_of_conduct": "While performing my duties I have followed the code of X.",
                "flag_for_ethics_review": ["No ethics review needed."],
                "supplement": "/attachment/0123abcd.zip",
                "nothing": None,
            },
            {"review"},
            -1.0,
            4.0,
        ),
    ],
    ids=["tmlr", "unknown", "choices"],
)
def test_every_field_of_an_unknown_form_is_kept(
    content: Any, parts: set[str], rating: float | None, confidence: float | None, tmp_path: Path
) -> None:
    notes = [SUBMISSION, reply("R1", "Submission1/-/Official_Review", content)]

    (review,) = source_paper(forum_of(notes, tmp_path), read_text("T\n\nB."), "w", FORMS).notes

    assert (set(review.parts), review.rating, review.confidence) == (parts, rating, confidence)
    for name, value in content.items():
        if name not in ("overall_score", "your_confidence") and value is not None:
            assert (isinstance(value, str) and value in review.text) or name in review.extra


def test_field_that_a_known_form_does_not_name_is_kept(tmp_path: Path) -> None:
    added = {"strengths": {"value": "Strong."}, "reproducibility_and_code": {"value": LONG}}
    review = V2[1] | {"content": added}

    (note,) = source_paper(forum_of([V2[0], review], tmp_path), read_text("T"), "w", FORMS).notes

    assert note.text == f"Strengths: Strong.\n\nReview: Reproducibility and code: {LONG}"


@pytest.mark.parametrize(
    "deleting",
    [
        [reply("R1", "Submission1/-/Official_Review", {"review": LONG}, ddate=1)],
        [{"id": "R1", "forum": "F1", "replyto": "F1", "invitations": ["x"], "ddate": 1}],
        [{"id": "E", "invitation": "e", "tcdate": 9 * DAY, "note": {"id": "R1", "ddate": 7}}],
        [
            {
                "id": "E",
                "invitation": "e",
                "tcdate": 9,
                "note": {"id": "R1", "ddate": {"delete": True}},
            },
            {"id": "E2", "invitation": "e", "tcdate": 10, "note": {"id": "R1", "ddate": 7}},
        ],
    ],
    ids=["note", "bare note", "edit", "edits"],
)
@pytest.mark.parametrize("first", [True, False])
def test_deleted_reply_is_left_out(deleting: list[Any], first: bool, tmp_path: Path) -> None:
    kept = [
        SUBMISSION,
        reply("R1", "Submission1/-/Official_Review", {"review": LONG}),
        reply("R2", "Submission1/-/Official_Review", {"review": "It is good."}),
    ]

    forum = forum_of([*deleting, *kept] if first else [*kept, *deleting], tmp_path)

    assert [note["id"] for note in forum.replies] == ["R2"]


def test_restored_reply_and_void_edit_are_kept_and_a_deleted_submission_is_named(
    tmp_path: Path,
) -> None:
    restored = {"id": "R1", "ddate": {"delete": True}}
    notes = [
        SUBMISSION,
        reply("R1", "Submission1/-/Official_Review", {"review": LONG}),
        {"id": "E", "invitation": "e", "tcdate": 1, "note": {"id": "R1", "ddate": 7}},
        {"id": "E2", "invitation": "e", "tcdate": 2, "note": restored},
        {"id": "E3", "invitation": "e", "tcdate": 3, "ddate": 4, "note": {"id": "R1", "ddate": 7}},
        SUBMISSION | {"id": "F2", "forum": "F2", "ddate": 9},
        reply("R3", "Submission2/-/Official_Review", {"review": LONG}, forum="F2", replyto="F2"),
    ]
    file = tmp_path / "n.json"
    file.write_text(json.dumps(notes))

    forums, problems = read_forums(file)

    assert [(forum.id, [r["id"] for r in forum.replies]) for forum in forums] == [("F1", ["R1"])]
    assert problems == [Problem("n.json: submission F2 was deleted.")]


def test_reply_that_exists_as_edits_only_is_put_together(tmp_path: Path) -> None:
    note = {"id": "R1", "forum": "F1", "replyto": "F1"}
    edits = [
        {"id": "E2", "tcdate": 20, "note": {"id": "R1", "content": {"rating": {"value": "7: ok"}}}},
        {
            "id": "E1",
            "tcdate": 10,
            "note": note
            | {
                "content": {
                    "review": {"value": LONG},
                    "rating": {"value": 3},
                    "x": {"value": "y z"},
                }
            },
        },
        {
            "id": "E3",
            "tcdate": 30,
            "note": note | {"content": {"x": {"value": {"delete": True}}}},
        },
    ]
    invitation = {"invitation": "X.org/Submission1/-/Official_Review"}

    forum = forum_of([SUBMISSION, *(edit | invitation for edit in edits)], tmp_path)
    (review,) = source_paper(forum, read_text("T"), "w", FORMS).notes

    assert (review.text, review.rating, review.created_ms) == (LONG, 7.0, 10)
    assert review.extra == {}


def test_versions_of_the_original_belong_to_the_blind_submission(tmp_path: Path) -> None:
    notes = [
        v1("O1", "-/Submission", 1, {}) | {"forum": "O1", "replyto": None},
        v1("F1", "-/Blind_Submission", 2, {}, original="O1"),
        {"id": "E1", "referent": "O1", "invitation": "x/-/Revision", "tcdate": 3, "content": {}},
    ]

    forum = forum_of(notes, tmp_path)

    assert (forum.id, forum.versions) == ("F1", {"E1": 3})


def test_notes_of_unknown_kind_or_without_content_are_named(tmp_path: Path) -> None:
    file = tmp_path / "n.json"
    odd = {"id": "R4", "forum": "F1", "replyto": "F1", "invitations": [None], "content": None}
    notes = [
        SUBMISSION,
        reply("R1", "Submission1/-/Official_Review", {"review": None, "rating": None}),
        reply("R2", "Submission1/-/Official_Review", {}) | {"content": None},
        reply("R3", "Submission1/-/Ethics_Chair_Note", {"note": LONG}),
        reply("R5", "Submission1/-/Ethics_Chair_Note", {"note": LONG}),
        odd,
    ]
    file.write_text(json.dumps(notes))
    forums, _ = read_forums(file)

    found = [problem.sentence for problem in openreview_dump.left_out(forums, FORMS)]

    assert found == [
        "Note R1 has no content.",
        "Note R2 has no content.",
        "2 notes of the unknown kind Ethics_Chair_Note were left out.",
        "1 notes of the unknown kind without invitation were left out.",
    ]
    assert source_paper(forums[0], read_text("T"), "w", FORMS).notes == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("as_lines", [True, False])
def test_byte_order_mark_is_no_part_of_the_text(
    encoding: str, as_lines: bool, tmp_path: Path
) -> None:
    notes = [SUBMISSION, reply("R1", "Submission1/-/Official_Review", {"review": f"{LONG}\u2028é"})]
    text = "\n".join(map(json.dumps, notes)) if as_lines else json.dumps(notes, ensure_ascii=False)
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    file = tmp_path / "notes.data"
    file.write_bytes(gzip.compress((mark + text).encode(encoding)))

    forums, problems = read_forums(file)

    assert (detect(file), problems) == ("openreview", [])
    assert forums[0].replies[0]["content"]["review"]["value"].endswith("spread.\u2028é")


@pytest.mark.parametrize("text", ["7", '{"notes": null}', "[" * 100_000, '"x"'])
def test_json_that_is_no_dump_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(UserError, match="has an unknown layout"):
        detect(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("value", "score"),
    [
        *[(8, 8.0), ("8: accept", 8.0), ("3 good", 3.0), ("-2: reject", -2.0), ("4.5", 4.5)],
        *[("6/10", 6.0), ("7 - ok", 7.0), (["5: fair"], 5.0), (True, None), ("Accept", None)],
        *[(float("nan"), None), (float("inf"), None), ("3rd round", None), (None, None)],
    ],
)
def test_score_is_the_leading_number(value: Any, score: float | None) -> None:
    assert score_of(value) == score


def test_a_new_venue_is_a_new_file(tmp_path: Path) -> None:
    form = "name: w\ninvitation: ^W/\nnotes: {review: Opinion$}\nparts: {strengths: [liked]}\n"
    (tmp_path / "w.yaml").write_text(form)
    reply = {"id": "R", "invitation": "W/-/Opinion", "content": {"liked": "All of it."}}
    forum = openreview_dump.Forum("F", {"id": "F", "invitation": "W/-/S", "content": {}}, [reply])

    found = source_paper(forum, read_text("T\n\nBody."), "why", load_forms(tmp_path))

    assert dict(found.notes[0].parts) == {"strengths": "All of it."}
    (tmp_path / "w.yaml").write_text(form + "colour: red\n")
    with pytest.raises(UserError, match=r"w\.yaml: colour: "):
        load_forms(tmp_path)


def test_peerread_folders_are_read(tmp_path: Path) -> None:
    for name in ("reviews", "parsed_pdfs"):
        (tmp_path / "acl_2017" / "dev" / name).mkdir(parents=True)
    reviews = {
        "id": "7",
        "title": "T",
        "abstract": "We study.",
        "accepted": True,
        "reviews": [
            {"comments": "- Strengths: fine.", "RECOMMENDATION": "4", "REVIEWER_CONFIDENCE": "3"},
            {"comments": "Accept.", "IS_META_REVIEW": True},
        ],
    }
    parsed = {"metadata": {"authors": [], "sections": [{"heading": None, "text": "Body."}]}}
    (tmp_path / "acl_2017/dev/reviews/7.json").write_text(json.dumps(reviews))
    (tmp_path / "acl_2017/dev/parsed_pdfs/7.pdf.json").write_text(json.dumps(parsed))
    (tmp_path / "acl_2017/dev/reviews/8.json").write_text("{}")
    (tmp_path / "acl_2017/dev/parsed_pdfs/8.pdf.json").write_text("{}")

    found, problem = read_peerread(tmp_path)

    assert detect(tmp_path) == "peerread"
    assert isinstance(found, SourcePaper)
    assert (found.id, found.decision, found.version_choice) == (
        "acl_2017_7",
        "Accept",
        "anonymous submission",
    )
    assert [note.kind for note in found.notes] == ["review", "meta_review"]
    assert isinstance(problem, Problem)


def test_tables_are_read_gzipped_and_broken_rows_are_named(tmp_path: Path) -> None:
    papers = [{"id": "a", "title": "T", "sections": [{"heading": "", "text": "Body."}]}]
    with gzip.open(tmp_path / "papers.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(papers[0]) + "\nnot json\n" + '{"title": "no id"}\n')
    rows = [
        {"paper_id": "a", "review_id": "r", "comments": "Fine.", "aspects": {"strengths": "S."}},
        {"paper_id": "a", "is_meta": True, "comments": "Yes.", "decision": "Accept"},
    ]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    found, *problems = read_tables(tmp_path)

    assert isinstance(found, SourcePaper)
    assert dict(found.notes[0].parts) == {"strengths": "S."}
    assert (found.notes[1].kind, found.decision) == ("meta_review", "Accept")
    assert [p.sentence for p in problems if isinstance(p, Problem)] == [
        "papers.jsonl.gz, line 2: not JSON.",
        "papers.jsonl.gz, line 3: id is missing.",
    ]


def test_a_ready_pair_is_merged_when_its_review_is_in_the_grammar(tmp_path: Path) -> None:
    merged_review = render([Item("acceptance", 0, "Clear", "It is clear.")], FOUR)
    rows = [{"id": "a", "paper": "T\n\nBody.", "review": merged_review}]
    rows += [{"paper": "T\n\nBody.", "review": "I like it."}, {"paper": "T"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    merged, free, problem = read_pairs(tmp_path / "pairs.jsonl")

    assert isinstance(merged, SourcePaper)
    assert isinstance(free, SourcePaper)
    assert (merged.merged_review, merged.notes) == (merged_review, ())
    assert (free.merged_review, free.notes[0].text) == (None, "I like it.")
    assert problem == Problem('pairs.jsonl, line 3: "review" is missing or empty.')


def test_unknown_source_is_refused_with_the_known_layouts(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')

    for path in (tmp_path, tmp_path / "x.jsonl"):
        with pytest.raises(UserError, match="has an unknown layout"):
            detect(path)


@pytest.mark.parametrize("wrong", [7, -1.5, "text", [], ["x"], {}, {"value": 3}, True, None])
@pytest.mark.parametrize(
    "key", ["content", "note", "details", "signatures", "tcdate", "ddate", "id", "replyto"]
)
def test_field_of_a_wrong_type_ends_no_import(key: str, wrong: Any, tmp_path: Path) -> None:
    review = reply("R1", "Submission1/-/Official_Review", {"review": LONG})
    changed = {"id": "R9", "forum": "F1", key: wrong}
    edit = {"id": "E", "invitation": "e", "tcdate": 1, "note": changed}
    file = tmp_path / "n.json"
    file.write_text(json.dumps([SUBMISSION, review, review | {"id": "R2"} | {key: wrong}, edit]))

    forums, _ = read_forums(file)

    openreview_dump.left_out(forums, FORMS)
    notes = [
        note for forum in forums for note in source_paper(forum, read_text("T"), "w", FORMS).notes
    ]
    assert LONG in [note.text for note in notes]
