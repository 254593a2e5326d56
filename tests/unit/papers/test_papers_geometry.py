"""The same page in every box, rotation, unit and font matrix reads as the same paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from papers.paper import Paper
from papers.pdf import read_pdf
from tests.unit.papers.handmade_pdf import line, pdf, type3_font

TITLE = "Counting Papers in Every Frame"
HEADINGS = ("1 Introduction", "2 Method")


def page(scale: float = 1.0) -> str:
    """A title, an abstract and two sections; `scale` shrinks positions and sizes."""
    lines = [
        (72, 720, TITLE, 18),
        (280, 690, "Abstract", 12),
        *(
            (100, 672 - 12 * i, f"The abstract says in line {i} what the paper shows.", 10)
            for i in range(4)
        ),
        (72, 600, HEADINGS[0], 12),
        *(
            (
                72,
                582 - 12 * i,
                f"This line {i} of the introduction is long enough to be read as text.",
                10,
            )
            for i in range(12)
        ),
        (72, 420, HEADINGS[1], 12),
        *(
            (
                72,
                402 - 12 * i,
                f"This line {i} of the method says how the papers are counted by hand.",
                10,
            )
            for i in range(12)
        ),
    ]
    return "".join(line(x * scale, y * scale, text, size * scale) for x, y, text, size in lines)


def read(tmp_path: Path, data: bytes) -> Paper:
    path = tmp_path / "paper.pdf"
    path.write_bytes(data)
    return read_pdf(path, max_pages=10)


@pytest.fixture
def plain(tmp_path: Path) -> Paper:
    paper = read(tmp_path, pdf([page()]))
    assert paper.title == TITLE
    assert tuple(section.heading for section in paper.sections) == HEADINGS
    assert paper.abstract.startswith("The abstract says in line 0")
    assert paper.abstract.endswith("line 3 what the paper shows.")
    assert paper.flags == ()
    return paper


BOXES = {
    "inherited over two levels": ("", "/MediaBox [0 0 612 792]"),
    "inherited tall page": ("", "/MediaBox [0 0 612 1000]"),
    "inherited crop box": ("/MediaBox [0 0 900 900]", "/CropBox [0 0 612 792]"),
    "crop box larger than the page": ("/MediaBox [0 0 612 792] /CropBox [-10 -10 622 802]", ""),
    "crop box twice as high": ("/MediaBox [0 0 612 792] /CropBox [0 0 612 1584]", ""),
    "crop box of no area": ("/MediaBox [0 0 612 792] /CropBox [0 0 0 0]", ""),
    "swapped corners": ("/MediaBox [612 792 0 0] /CropBox [612 0 0 792]", ""),
}


@pytest.mark.parametrize("name", BOXES)
def test_page_reads_alike_in_every_box(tmp_path: Path, plain: Paper, name: str) -> None:
    own, inherited = BOXES[name]
    data = pdf([page()], page_entries=own, pages_entries=inherited)
    assert read(tmp_path, data) == plain


def test_text_outside_the_visible_box_is_hidden(tmp_path: Path, plain: Paper) -> None:
    content = page() + line(72, 815, "This sentence stands above the printed page.")
    boxes = "/MediaBox [0 0 612 792] /CropBox [0 0 612 842]"
    paper = read(tmp_path, pdf([content], page_entries=boxes))
    assert [flag.kind for flag in paper.flags] == ["hidden_text"]
    assert paper.text == plain.text


TURNED = {
    90: ("0 1 -1 0 792 0", "[0 0 792 612]"),
    180: ("-1 0 0 -1 612 792", "[0 0 612 792]"),
    270: ("0 -1 1 0 0 612", "[0 0 792 612]"),
}


@pytest.mark.parametrize("rotate", TURNED)
@pytest.mark.parametrize("declared", [True, False])
def test_page_reads_alike_in_every_rotation(
    tmp_path: Path, plain: Paper, rotate: int, declared: bool
) -> None:
    matrix, box = TURNED[rotate]
    entries = f"/MediaBox {box}" + (f" /Rotate {rotate}" if declared else "")
    assert read(tmp_path, pdf([f"q {matrix} cm {page()} Q"], page_entries=entries)) == plain


@pytest.mark.parametrize("rotate", [90, 180])
def test_page_displayed_on_its_side_is_read_along_its_text(
    tmp_path: Path, plain: Paper, rotate: int
) -> None:
    entries = f"/MediaBox [0 0 612 792] /Rotate {rotate}"
    assert read(tmp_path, pdf([page()], page_entries=entries)) == plain


@pytest.mark.parametrize("unit", [10, 4])
def test_page_in_large_user_units_reads_alike(tmp_path: Path, plain: Paper, unit: int) -> None:
    box = f"/MediaBox [0 0 {612 / unit} {792 / unit}] /UserUnit {unit}"
    assert read(tmp_path, pdf([page(1 / unit)], page_entries=box)) == plain


@pytest.mark.parametrize(
    ("matrix", "em", "scale"),
    [("0.001 0 0 0.001 0 0", 1000, 1), ("1 0 0 1 0 0", 100, 0.01), ("0.01 0 0 0.01 0 0", 20, 5)],
)
def test_size_of_a_type_3_font_is_what_is_painted(
    tmp_path: Path, matrix: str, em: float, scale: float
) -> None:
    font, glyphs = type3_font(matrix, em)
    lines = [
        (720, "Counting Papers in Bars", 12),
        (690, "Abstract", 10),
        *((672 - 12 * i, f"The abstract says in line {i} what it shows.", 8) for i in range(4)),
        (600, "Introduction", 10),
        *((582 - 12 * i, f"Line {i} of the introduction is as long as text.", 8) for i in range(9)),
    ]
    content = "".join(line(72, y, text, size * scale) for y, text, size in lines)
    paper = read(tmp_path, pdf([content], font=font, others=glyphs))
    assert paper.title == "Counting Papers in Bars"
    assert [section.heading for section in paper.sections] == ["Introduction"]
    assert paper.abstract.startswith("The abstract says in line 0")
    assert paper.flags == ()
