"""PDFs that are no papers are refused with a sentence or flagged, as docs/pdf.md says."""

from __future__ import annotations

from pathlib import Path

import pypdfium2 as pdfium
import pytest

from errors import PaperUnreadable
from papers.paper import Paper
from papers.pdf import read_pdf
from tests.unit.papers.handmade_pdf import line, pdf, prose, type3_font

NOTICE = "".join(
    line(72, 700 - 14 * i, text)
    for i, text in enumerate(
        ["Please wait...", "If this message is not replaced, your viewer cannot show the document."]
    )
)
ABSTRACT = line(72, 740, "Counting Papers Alone", 18) + line(72, 715, "Abstract", 12)
ABSTRACT += "".join(
    line(72, 690 - 12 * i, f"The abstract says in line {i} a lot.") for i in range(6)
)
PAPER = ABSTRACT + line(72, 600, "1 Introduction", 13) + prose("The paper goes on in line", 580)


def read(tmp_path: Path, data: bytes) -> Paper:
    path = tmp_path / "file.pdf"
    path.write_bytes(data)
    return read_pdf(path, max_pages=10)


def refusal(tmp_path: Path, data: bytes) -> tuple[str, str]:
    with pytest.raises(PaperUnreadable) as caught:
        read(tmp_path, data)
    return caught.value.kind, str(caught.value)


XFA = "/AcroForm << /Fields [] /XFA 1000 0 R >>"
PACKET = {1000: b"<< /Length 6 >>\nstream\n<xdp/>\nendstream"}


@pytest.mark.parametrize("entries", [XFA, f"/NeedsRendering true {XFA}"])
def test_xfa_form_is_refused(tmp_path: Path, entries: str) -> None:
    data = pdf([NOTICE], catalog_entries=entries, others=PACKET)
    kind, sentence = refusal(tmp_path, data)
    assert kind == "form"
    assert "XFA form" in sentence


def test_paper_with_an_xfa_packet_is_read(tmp_path: Path) -> None:
    long = prose("The paper has text on every page and is no stub of a form in line", 750, 40)
    data = pdf([PAPER, long], catalog_entries=XFA, others=PACKET)
    assert read(tmp_path, data).flags == ()


def _with_attachment(tmp_path: Path, data: bytes) -> bytes:
    document = pdfium.PdfDocument(data)
    document.new_attachment("paper.pdf").set_data(b"%PDF-1.4")
    path = tmp_path / "attached.pdf"
    document.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "text", ["Open this portfolio in a newer viewer.", "Files of submission 7"]
)
def test_portfolio_is_refused(tmp_path: Path, text: str) -> None:
    kind, sentence = refusal(tmp_path, _with_attachment(tmp_path, pdf([line(72, 700, text)])))
    assert kind == "portfolio"
    assert "submit the files inside it" in sentence


def test_paper_with_an_attachment_is_read(tmp_path: Path) -> None:
    long = prose("The paper has text on every page although a file is attached in line", 750, 40)
    assert read(tmp_path, _with_attachment(tmp_path, pdf([PAPER, long]))).title


def shifted(content: str, by: int) -> bytes:
    """The same text in codes that differ by `by`, as subsets of fonts have."""
    out = bytearray(content.encode())
    depth = False
    for index, byte in enumerate(out):
        if byte in b"()":
            depth = byte == ord("(")
        elif depth:
            out[index] = byte + by
    return bytes(out)


@pytest.mark.parametrize("first", [33, 60, 100])
def test_glyphs_without_characters_are_refused(tmp_path: Path, first: int) -> None:
    font, glyphs = type3_font("0.001 0 0 0.001 0 0", 1000, first)
    data = pdf([shifted(PAPER, first - 32)], font=font, others=glyphs)
    kind, sentence = refusal(tmp_path, data)
    assert kind == "no_unicode"
    assert sentence.startswith("The fonts of the PDF do not say which letters they show")


LETTER = "".join(
    line(72, 720 - 16 * i, text)
    for i, text in enumerate(
        [
            "Dear Editor,",
            "we submit a paper on counting to your journal and hope",
            "that it fits.",
            "Sincerely,",
            "A. Person",
        ]
    )
)
FIGURE = line(72, 700, "accuracy of the model", 9) + line(300, 500, "number of training papers", 9)
FIELDS = {
    1000 + i: (
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (field{i}) /Rect [72 {100 + 20 * i} 300"
        f" {115 + 20 * i}] >>"
    ).encode()
    for i in range(4)
}
FORM_ENTRIES = "/AcroForm << /Fields [1000 0 R 1001 0 R 1002 0 R 1003 0 R] >>"
ANNOTS = "/MediaBox [0 0 612 792] /Annots [1000 0 R 1001 0 R 1002 0 R 1003 0 R]"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf([LETTER]), "a letter"),
        (pdf([LETTER.replace("Dear Editor", "To whom it may concern")]), "a letter"),
        (pdf([ABSTRACT]), "an abstract alone"),
        (pdf([FIGURE]), "a figure"),
        (pdf([prose("label of one of the many boxes").replace(".)", ")")]), "a figure"),
        (
            pdf([PAPER], others=FIELDS, catalog_entries=FORM_ENTRIES, page_entries=ANNOTS),
            "a form with 4 fields",
        ),
    ],
)
def test_other_documents_are_flagged(tmp_path: Path, data: bytes, reason: str) -> None:
    flags = [flag for flag in read(tmp_path, data).flags if flag.kind == "not_a_paper"]
    assert len(flags) == 1
    assert flags[0].detail.startswith(reason)


def test_short_paper_is_not_flagged(tmp_path: Path) -> None:
    assert read(tmp_path, pdf([PAPER])).flags == ()
