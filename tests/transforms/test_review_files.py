"""Review files: written for people and their spreadsheets, read back whatever these made of them."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.decisions import Decision, Verdict
from transforms.review_files import FILLED, SHOWN, Waiting, read_review, write_review

NOW = datetime(2025, 1, 31, 12, tzinfo=UTC)
ID = "0" * 64 + "-0"


def waiting(**others: Any) -> Waiting:
    """Return a label that waits."""
    shown: dict[str, Any] = {
        "id": ID,
        "picture": "a.jpg",
        "frame": None,
        "source_uri": "in/a.jpg",
        "box": (1.5, 2.0, 30.0, 40.0),
        "label": "bull",
        "candidates": ["ball", "高兴"],
        "reason": "label.needs_review: a word of its own",
        "confidence": 0.5,
    }
    return Waiting(**(shown | others))


def filled(path: Path, **cells: Any) -> Path:
    """Fill cells of the first row of a review file, as a person does, and save it as it was written."""
    if path.suffix == ".csv":
        rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        rows[0] |= cells
        with path.open("w", encoding="utf-8", newline="") as out:
            table = csv.DictWriter(out, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
    else:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(lines[0]) | cells), *lines[1:]]))
    return path


def read(path: Path, reviewer: str | None = "anna") -> tuple[list[Decision], list[tuple[int, str]]]:
    """Return the decisions, and the refused lines."""
    decisions, refusals = read_review(str(path), reviewer, NOW)
    return decisions, [(refusal.line, refusal.reason) for refusal in refusals]


@pytest.fixture(params=["review.csv", "review.jsonl"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A review file with two rows, in each form."""
    path = tmp_path / request.param
    write_review(str(path), [waiting(), waiting(id="1" * 64 + "-0", label=None, box=None)])
    return path


# ---- written


def test_a_csv_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    """With a mark, so that its texts are read as UTF-8; boxes and candidates are JSON."""
    write_review(str(tmp_path / "r.csv"), [waiting()])
    data = (tmp_path / "r.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    [row] = csv.DictReader(data.decode("utf-8-sig").splitlines())
    assert tuple(row) == (*SHOWN, *FILLED)
    assert row["box"] == "[1.5, 2.0, 30.0, 40.0]" and json.loads(row["candidates"]) == ["ball", "高兴"]
    assert row["frame"] == "" and not any(row[name] for name in FILLED)


def test_a_line_of_json_holds_the_same(tmp_path: Path) -> None:
    """As values rather than texts, and null where a person is to write."""
    write_review(str(tmp_path / "r.jsonl"), [waiting(frame=3, label=None)])
    told = json.loads((tmp_path / "r.jsonl").read_text())
    assert tuple(told) == (*SHOWN, *FILLED)
    assert told["box"] == [1.5, 2.0, 30.0, 40.0] and told["frame"] == 3 and told["label"] is None


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "＝1", "'=1", "''-x"])
def test_no_text_is_a_formula(text: str, tmp_path: Path) -> None:
    """It has an apostrophe in front, which is gone when it is read back."""
    path = tmp_path / "r.csv"
    write_review(str(path), [waiting(label=text)])
    [row] = csv.DictReader(path.read_text("utf-8-sig").splitlines())
    assert row["label"] == f"'{text}"
    [decision], _ = read(filled(path, decision="accept"))
    assert decision.label == text.strip()


def test_an_apostrophe_of_its_own_stays(tmp_path: Path) -> None:
    """Only those that we put there are taken off."""
    path = tmp_path / "r.csv"
    write_review(str(path), [waiting(label="'tis")])
    [decision], _ = read(filled(path, decision="accept"))
    assert decision.label == "'tis"


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8))
def test_any_label_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """What is shown is what is accepted, but for spaces around it."""
    path = tmp_path_factory.mktemp("r") / "r.csv"
    write_review(str(path), [waiting(label=text)])
    [decision], _ = read(filled(path, decision="accept"))
    assert decision.label == (text.strip() or None)


def test_decisions_are_never_written_over(written: Path) -> None:
    """A file without any is; so is an empty one, and nothing else."""
    write_review(str(written), [waiting()])
    filled(written, decision="accept")
    kept = written.read_bytes()
    with pytest.raises(UsageError, match="holds decisions, which would be lost"):
        write_review(str(written), [])
    assert written.read_bytes() == kept
    written.write_bytes(b"")
    write_review(str(written), [])


@pytest.mark.parametrize("text", ["id,decision\n1,\n", '{"id": 1}\n', "hello\n", "[1]\n"])
def test_another_file_is_never_written_over(text: str, written: Path) -> None:
    """One that we did not write, whatever is in it."""
    written.write_text(text)
    with pytest.raises(UsageError):
        write_review(str(written), [waiting()])
    assert written.read_text() == text


def test_the_name_says_the_form(tmp_path: Path) -> None:
    """And a folder is no file."""
    with pytest.raises(UsageError, match=r"expected a name that ends with \.csv or \.jsonl"):
        write_review(str(tmp_path / "review.xlsx"), [])
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UsageError, match="expected a file"):
        write_review(str(tmp_path / "a.csv"), [])


# ---- read


def test_lines_without_a_decision_are_passed_over(written: Path) -> None:
    """What nobody filled in is no decision, and no fault."""
    assert read(written) == ([], [])


def test_a_decision_is_read(written: Path) -> None:
    """With all that the person wrote, and what the line shows."""
    cells = {"decision": " Both", "new_label": " cat ", "new_box": "[1, 2.5, 3, 4]", "reviewer": "ben", "comment": "so"}
    [decision], refused = read(filled(written, decided_at="2025-01-31T13:00:00+02:00", **cells))
    assert not refused
    assert decision == Decision(
        line=decision.line,
        id=ID,
        verdict=Verdict.BOTH,
        label="bull",
        box=None,
        new_label="cat",
        new_box=(1, 2.5, 3, 4),
        reviewer="ben",
        decided_at=NOW - timedelta(hours=1),
        comment="so",
    )
    assert decision.line == (2 if written.suffix == ".csv" else 1)


def test_what_was_shown_comes_along(written: Path) -> None:
    """Because the label that is accepted is the one that the person saw."""
    [decision], _ = read(filled(written, decision="accept"))
    assert (decision.label, decision.box, decision.reviewer, decision.decided_at) == (
        "bull",
        (1.5, 2, 30, 40),
        "anna",
        NOW,
    )


@pytest.mark.parametrize(
    ("encoding", "separator", "first"),
    [
        ("utf-8", ",", ""),
        ("utf-8-sig", ";", ""),
        ("cp1252", ";", ""),  # Excel, "CSV"
        ("utf-16", "\t", ""),  # Excel, "Unicode text"
        ("utf-8-sig", ";", "sep=;\r\n"),
    ],
)
def test_a_spreadsheets_own_form_is_read(encoding: str, separator: str, first: str, tmp_path: Path) -> None:
    """Other separators, encodings and line ends; lines are counted as the file has them."""
    path = tmp_path / "r.csv"
    rows = [
        ["ID ", "Decision", "new_label", "reviewer", "comment"],
        ["", "", "", "", ""],
        ["x-0", "relabel", "fröhlich", "Zoë", 'two\r\nlines "and" more'],
        ["x-1", "accept", "", "Zoë", ""],
        ["x-2", "acept", "", "Zoë", ""],
    ]
    text = "".join(separator.join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row) + "\r\n" for row in rows)
    path.write_bytes((first + text).encode(encoding))
    decisions, refused = read(path)
    before = 1 if first else 0
    assert [(each.line - before, each.id, each.new_label, each.reviewer) for each in decisions] == [
        (3, "x-0", "fröhlich", "Zoë"),
        (5, "x-1", None, "Zoë"),
    ]
    assert refused == [(6 + before, "the decision 'acept' is unknown: expected accept, relabel, rebox, both, reject")]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"decision": "yes"}, "the decision 'yes' is unknown"),
        ({"decision": "relabel"}, "relabel needs a new_label"),
        ({"decision": "both", "new_label": "cat"}, "both needs a new_box"),
        ({"decision": "accept", "new_label": "cat"}, "accept has no use for a new_label, but there is one: 'cat'"),
        ({"decision": "rebox", "new_box": "[1,2,3]"}, r"new_box: expected \[x, y, width, height\] in pixels"),
        ({"decision": "rebox", "new_box": "1,2,3,4"}, "new_box: expected"),
        ({"decision": "rebox", "new_box": "[1,2,3,true]"}, "new_box: expected"),
        ({"decision": "rebox", "new_box": '[1,2,3,"4"]'}, "new_box: expected"),
        ({"decision": "rebox", "new_box": f"[1,2,3,{10**400}]"}, "new_box: expected"),
        ({"decision": "rebox", "new_box": "[" * 10_000}, "new_box: expected"),
        ({"decision": "accept", "box": "[1.5; 2; 30; 40]"}, "box: expected"),
        ({"decision": "accept", "decided_at": "31/01/2025"}, "decided_at '31/01/2025': expected a time as 2025-01-31"),
        ({"decision": "accept", "decided_at": "0001-01-01T00:00:00+14:00"}, "decided_at"),
        ({"decision": "accept", "reviewer": "x" * 201}, "expected who decided"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(cells: dict[str, str], why: str, written: Path) -> None:
    """And the line after it is read."""
    decisions, refused = read(filled(written, **cells))
    assert not decisions
    [(line, reason)] = refused
    assert line == (2 if written.suffix == ".csv" else 1)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(reason)


def test_somebody_must_have_decided(written: Path) -> None:
    """In the file, or by the option."""
    filled(written, decision="accept")
    assert "expected who decided" in read(written, None)[1][0][1]
    assert read(written, "anna")[0][0].reviewer == "anna"


def test_a_broken_line_of_json_is_refused_alone(tmp_path: Path) -> None:
    """The rest of the file is read."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "a-0", "decision": "reject"}\n{"id": \n\n7\n{"id": "b\\ud800", "decision": "reject"}\n')
    decisions, refused = read(path)
    assert [each.id for each in decisions] == ["a-0"]
    assert [line for line, _ in refused] == [2, 4, 5]
    assert "no text" in refused[2][1]


@pytest.mark.parametrize("data", [b"", b"name,label\na,b\n", b"\xff\xfe\x00", b"\x00" * 100, b"id\n"])
def test_a_csv_of_another_kind_is_named(data: bytes, tmp_path: Path) -> None:
    """With what was expected."""
    (tmp_path / "r.csv").write_bytes(data)
    with pytest.raises(UsageError, match=r"r\.csv: expected a review file"):
        read(tmp_path / "r.csv")


def test_a_cell_without_an_end_is_named(tmp_path: Path) -> None:
    """Nothing of unknown length is read into one cell; the limit is one of the process, and tables raise it."""
    (tmp_path / "r.csv").write_text('id,decision\na-0,"' + "x\n" * 100_000)
    before = csv.field_size_limit(100_000)
    try:
        with pytest.raises(UsageError, match=r"r\.csv, line 2: expected a CSV file: field larger"):
            read(tmp_path / "r.csv")
    finally:
        csv.field_size_limit(before)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(UsageError, match="is not there"):
        read(tmp_path / "r.csv")
