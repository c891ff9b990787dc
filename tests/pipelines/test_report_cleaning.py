"""The report of a cleaned data set says what was changed, what is held back and why, whatever the labels are."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines import clean, review
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.report.cleaning import _judged, _suites
from pipelines.report.page import render
from pipelines.report.tallies import tally
from pipelines.summary import last_lines
from schemas.reasons import Rule
from tests.builders import picture
from tests.pipelines.holding import commit
from tests.pipelines.test_report import HOSTILE, filled, shard, table, told, words, written
from tests.pipelines.test_report import committed as annotated
from tests.pipelines.test_report_browser import CONTRASTS, OPEN, Visit, chromium  # noqa: F401  a fixture
from tests.transforms.messes import Mess, label

SOURCE = {"mark": "a1", "name": "in.json", "form": "coco", "corners": "xywh", "unit": "pixels"}
EVIL = HOSTILE.replace("\udcff", "").replace("\x00", "")


def messy() -> Mess:
    """Return pictures of which labels were changed, held back, decided on, and that are copies of others."""
    made = Mess(
        *(picture(f"{number}.jpg", label("catt", (10.5, 20, 30, 40))) for number in range(3)),
        picture("dog.jpg", label("DOG ")),
        picture("bull.jpg", label("bull"), label("bull", (200, 20, 50, 50))),
        picture("cut.jpg", label("cat", (600, 20, 100, 50))),
        picture("copy.jpg", label("cat")),
        picture("near.jpg", label("cat")),
    )
    identity = {row["file_name"]: row["image_id"] for row in made.images}
    for number in range(3):
        made.change(f"{identity[f'{number}.jpg']}-0", Rule.LABEL_SPELLING, label="cat")
    made.change(f"{identity['dog.jpg']}-0", Rule.LABEL_CANONICAL, label="dog")
    made.change(f"{identity['cut.jpg']}-0", Rule.BBOX_CLIPPED, bbox=(600, 20, 40, 50))
    made.hold(f"{identity['bull.jpg']}-0", Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER, candidates=["ball", "bill"])
    made.hold(f"{identity['bull.jpg']}-1", Rule.LABEL_NEEDS_REVIEW, candidates=["ball", "bill"])
    made.hold(f"{identity['0.jpg']}-0", Rule.BBOX_DEGENERATE)
    made.merge(identity["copy.jpg"], identity["dog.jpg"], Rule.DUPLICATE_EXACT)
    made.merge(identity["near.jpg"], identity["dog.jpg"], Rule.DUPLICATE_NEAR)
    return made


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """The data set of these pictures."""
    return Dataset(commit(tmp_path / "out", messy().tables(), sources=[SOURCE]))


def page(dataset: Dataset, **others: Any) -> str:
    """Return the page of a data set."""
    (dataset.path / "report").mkdir(exist_ok=True)
    return written(dataset, **others)


def section(text: str, anchor: str) -> str:
    """Return one section of a page."""
    return text.split(f'<section id="{anchor}"')[1].split("</section>")[0]


def anchors(text: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', text)


def test_changes_are_told_with_what_became_what(dataset: Dataset) -> None:
    """By rule: how many, what it means, the most frequent pairs first, an example's name; boxes as numbers."""
    changed = section(page(dataset), "changed")
    assert "5 values were changed by 3 rules, most often label.spelling (3)." in words(changed)
    assert "The label was a misspelling of exactly one name of the vocabulary." in words(changed)
    captions = re.findall(r"<caption>([^<]+)<", changed)
    assert captions == ["label.spelling: 3 changed", "bbox.clipped: 1 changed", "label.canonical: 1 changed"]
    assert table(changed, captions[0]) == [["Rows", "Before", "After", "For example"], ["3", "catt", "cat", "0.jpg"]]
    assert table(changed, captions[1])[1] == ["1", "600, 20, 100, 50", "600, 20, 40, 50", "cut.jpg"]
    assert ">DOG </bdi>" in changed  # the blank that was taken away is there to be seen
    assert f"python -m pipelines.clean --dataset {dataset.path} --undo label.spelling" in words(changed)


def test_what_was_changed_alike_is_counted_and_cut(tmp_path: Path) -> None:
    """Of a rule the five most frequent changes are shown, equal ones in the order of the table."""
    names = ["a"] + ["b"] * 2 + ["c"] * 3 + ["d", "e", "f", "g"]
    made = Mess(*(picture(f"{at}.jpg", label(name)) for at, name in enumerate(names)))
    for identity in made.ids():
        made.change(identity, Rule.LABEL_ALIAS, label="cat")
    shown = table(page(Dataset(commit(tmp_path, made.tables()))), "label.alias: 10 changed")[1:]
    assert [row[:2] for row in shown] == [["3", "c"], ["2", "b"], ["1", "a"], ["1", "d"], ["1", "e"]]


def test_what_waits_for_a_person_stands_first(dataset: Dataset) -> None:
    """Its number is that of the review file, and the command that writes it is there; then what else is held back."""
    held = section(page(dataset), "held")
    assert review.write_review(dataset, str(dataset.path / "r.csv"))[0].endswith(
        "2 annotations wait for a person's decision"
    )
    assert words(held.split('class="says">')[1]).startswith(
        "2 labels wait for a person's decision. 4 rows were held back by 3 rules, most often label.needs_review (2)"
    )
    assert f"python -m pipelines.clean --dataset {dataset.path} --needs-review review.csv" in words(held)
    captions = re.findall(r"<caption>([^<]+)<", held)
    assert captions == [
        "label.needs_review: 2 held back for a person",
        "bbox.outlier: 1 held back for a person",
        "bbox.degenerate: 1 held back",
    ]
    head, row = table(held, captions[0])
    assert head == ["Rows", "Value", "Candidates", "Why", "For example"]
    assert row == ["2", "bull", "ball, bill", "because", "bull.jpg"]
    assert table(held, captions[2])[0] == ["Rows", "Value", "Why", "For example"]  # a column of nothing is left out


def test_a_label_on_a_copy_or_on_a_picture_that_is_held_does_not_wait(tmp_path: Path) -> None:
    """As for the review file: it could not stand, whatever a person says."""
    made = Mess(*(picture(f"{name}.jpg", label("bull")) for name in "abcd"))
    ids = made.ids()
    a, b, c, _ = (identity.rpartition("-")[0] for identity in ids)
    for identity in ids:
        made.hold(identity, Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER)
    made.merge(b, a, Rule.DUPLICATE_NEAR)
    made.hold_picture(c, Rule.IMAGE_SIZE)
    dataset = Dataset(commit(tmp_path, made.tables()))
    assert tally(dataset).waiting == len(review.waiting(dataset)) == 2


def test_duplicates_are_told_by_group(dataset: Dataset) -> None:
    """How many of which kind, how large the groups are, and the names of the largest."""
    duplicates = section(page(dataset), "duplicates")
    assert "2 pictures are copies of others: 1 of the same bytes and 1 that show the same." in words(duplicates)
    assert "Of 1 group of alike pictures the largest has 3." in words(duplicates)
    assert table(duplicates, "Groups by size")[1:] == [["3", "1", "100 %"]]
    assert table(duplicates, "The largest groups")[1:] == [["dog.jpg", "3", "copy.jpg near.jpg"]]
    assert "duplicate." not in section(page(dataset), "changed")


def test_sources_are_told_with_how_they_were_read(dataset: Dataset, tmp_path: Path) -> None:
    """Format, labels that stand, the boxes' convention and the vocabulary; of many sources the first twenty."""
    shown = section(page(dataset), "sources")
    assert table(shown, "Label files")[1:] == [["in.json", "coco", "6", "corner and size (xywh), pixels"]]
    assert "Labels that may stand: cat, dog and bird." in words(shown)
    many = [SOURCE | {"mark": f"m{number}", "name": f"{number}.csv", "corners": None} for number in range(1000)]
    large = section(page(Dataset(commit(tmp_path / "many", messy().tables(), sources=many))), "sources")
    assert [row[0] for row in table(large, "Label files")[1:]] == [f"{number}.csv" for number in range(20)]
    assert "1,000 sources of labels. The first 20 are shown, 980 more are not." in words(large)
    assert table(large, "Label files")[1][3] == "–"


def decide(dataset: Dataset, who: str, *verdicts: tuple[str, str]) -> None:
    path = dataset.path / f"{who}.jsonl"
    rows = [{"id": identity, "decision": "relabel", "new_label": name, "reviewer": who} for identity, name in verdicts]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert review.decide(dataset, str(path))[1]


def test_people_are_told_with_how_far_they_agree(dataset: Dataset) -> None:
    """Kappa of two and alpha of all, once somebody decided; before there is no such section."""
    assert "people" not in anchors(page(dataset))
    ids = list(dataset.scan("annotations").sort("annotation_id").collect()["annotation_id"])
    decide(dataset, "anna", *((identity, "cat") for identity in ids[:3]), (ids[3], "dog"))
    decide(Dataset(dataset.path), "bo", *((identity, "cat") for identity in ids[:2]), *((i, "dog") for i in ids[2:4]))
    after = Dataset(dataset.path)
    shown = section(page(after), "people")
    found = review.agreement(after)
    assert "2 people judged 4 labels, 4 of them more than one. Krippendorff's alpha is 0." in words(shown)
    assert "1 label is in dispute." in words(shown)
    assert table(shown, "Labels by reviewer")[1:] == [["anna", "4"], ["bo", "4"]]
    assert table(shown, "Agreement of two")[1:] == [["anna and bo", "4", f"{found['pairs'][0]['kappa']:.3f}"]]
    assert "person.decision: 16 changed" in section(page(after), "changed")  # of eight words a label and a box
    assert "person.disagreement: 1 held back for a person" in section(page(after), "held")


VALIDATION = {"suite": "clean", "table": "annotations", "version": "1", "evaluated": 7, "successful": 6, "rows": 9}


def test_expectations_are_told(tmp_path: Path) -> None:
    """Those of parts are added up over the commits; those of the data set have what was found, failures first."""
    commit(tmp_path, messy().tables(), validation=[VALIDATION | {"failed": {"expect_confidence": 4}}])
    commit(tmp_path, Mess(picture("z.jpg", label())).tables(), validation=[VALIDATION | {"failed": {}, "rows": 1}])
    dataset = Dataset(tmp_path)
    shown = section(page(dataset), "expectations")
    assert "7 expectations: 1 does not hold." in words(shown)
    assert table(shown, "Each part as it was written")[1:] == [["clean", "annotations", "7", "6", "10"]]
    assert table(shown, "What did not hold")[1:] == [["expect_confidence", "clean", "4"]]
    results = [
        {"success": success, "expectation_config": {"description": what, "meta": {"rule": "x.y"}}, "result": found}
        for success, what, found in (
            (True, "share of copies: at most 30.0%", {"observed_value": 0.25}),
            (False, "lost labels: at most 0", {"observed_value": 2.0}),
        )
    ]
    whole = {"suite_name": "dataset", "success": False, "results": results}
    (tmp_path / "report" / "validation.json").write_text(json.dumps(whole))
    shown = section(page(dataset), "expectations")
    assert "9 expectations: 2 do not hold." in words(shown)
    assert table(shown, "The whole data set")[1:] == [
        ["lost labels: at most 0", "does not hold", "2", "x.y"],
        ["share of copies: at most 30.0%", "holds", "0.250", "x.y"],
    ]


@pytest.mark.parametrize(
    "given", [None, 3, [], {"results": {"a": 1}}, {"results": [{"expectation_config": 3}, {"expectation_config": {}}]}]
)
def test_any_result_is_borne(given: Any, tmp_path: Path) -> None:
    """What cannot be used is passed over; deep nesting ends."""
    nested: Any = given
    for _ in range(50):
        nested = {"results": [nested]}
    assert _judged(nested) == []
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "validation.json").write_text(json.dumps(given))
    assert page(Dataset(commit(tmp_path, messy().tables(), validation=None)))
    assert _suites(Dataset(tmp_path).manifests, set()) == []


def test_no_word_of_faces_where_none_was_looked_for(dataset: Dataset) -> None:
    """Labels, boxes and pictures with a label: a table of blood cells has no face. There is no model to tell of."""
    text = page(dataset)
    body = words(text).replace("already stands for this face", "")
    assert not re.search(r"\bfaces?\b", body, re.IGNORECASE)
    assert "Pictures with a label" in body and "no label" in body and "Labels and boxes" in body
    assert "Models" not in section(text, "configuration")
    assert anchors(text) == [
        *("coverage", "sources", "changed", "held", "duplicates", "boxes", "labels", "speed", "configuration")
    ]
    lines = last_lines(told(dataset, detector=None, this_run={"items": 0, "outcomes": {}, "seconds": 0}), dataset.path)
    assert lines[1].startswith("labels: 6 (")


def test_a_data_set_with_a_detector_stays_as_it_was(tmp_path: Path) -> None:
    """Faces are found, rules stand in one table, and nothing is told of sources."""
    changed = filled("changes", 1, kind=["annotation"], rule=["bbox.clipped"])
    text = page(annotated(tmp_path, shard(messy().tables(), changes=changed)))
    assert "Labelled faces" in words(text) and "Rows by rule" in words(text)
    assert not {"sources", "changed", "held", "duplicates", "boxes"} & {*anchors(text)}


def test_nothing_done_is_said_in_a_word(tmp_path: Path) -> None:
    """Labels that were right have no sections on changes, but a sentence."""
    text = page(Dataset(commit(tmp_path, Mess(picture("a.jpg", label())).tables())))
    assert "No rule held a row back or changed one." in words(text)
    assert not {"sources", "changed", "held", "duplicates", "people", "expectations"} & {*anchors(text)}


def hostile(folder: Path) -> Dataset:
    """Return a data set in which every text is an attack."""
    made = Mess(*(picture(f"{EVIL}{name}", label(EVIL)) for name in "abcd"), picture("e", label("[" * 5000)))
    ids = made.ids()
    made.change(ids[0], Rule.LABEL_ALIAS, label=f"[{EVIL}]")
    made.change(ids[4], Rule.LABEL_ALIAS, label='["<b>"]')
    made.hold(ids[1], Rule.LABEL_NEEDS_REVIEW, candidates=[EVIL] * 100)
    made.merge(ids[2].rpartition("-")[0], ids[3].rpartition("-")[0], Rule.DUPLICATE_NEAR)
    made.quarantine += [row | {"rule": f"<i>{EVIL}", "detail": EVIL * 100} for row in made.quarantine[:1]]
    sources = [dict.fromkeys(SOURCE, EVIL), dict.fromkeys(SOURCE, 3), 7]
    failed = [{"suite": EVIL, "table": EVIL, "evaluated": EVIL, "rows": 10**400, "failed": {EVIL: 1}}]
    commit(folder, made.tables(), sources=sources, categories=[EVIL, 3], validation=failed)
    (folder / "report").mkdir()
    asked = {"description": EVIL, "meta": {"rule": EVIL}}
    evil = {"suite_name": EVIL, "results": [{"expectation_config": asked, "result": {"observed_value": EVIL}}]}
    (folder / "report" / "validation.json").write_text(json.dumps(evil))
    return Dataset(folder)


def test_hostile_labels_and_names_are_text(tmp_path: Path) -> None:
    """Neither labels, names, rules, sources nor the folder's own name leave their place."""
    text = page(hostile(tmp_path / "<u>$(x)'set"))
    for mark in ("<img src=x", "<script", "</script", "<b>", "<i>", "<u>", "\u202e"):
        assert mark not in text
    assert words(text).count("onerror=alert(1)") >= 15
    assert """/<u>$(x)'"'"'set' --needs-review""" in words(text)


def test_many_rows_and_rules_make_a_small_page(tmp_path: Path) -> None:
    """50,000 changes and as many rows held back, of 1,000 rules: less than 1 MB, and what is left out is said."""
    count = 50_000
    at = [f"{number}" for number in range(count)]
    long = [f"{number}" + "x" * 200 for number in range(count)]
    common = {
        "kind": ["annotation"] * count,
        "id": at,
        "file_name": long,
        "rule": [f"r{n % 1000}" for n in range(count)],
    }
    changes = filled("changes", count, **common, field=["label"] * count, before=long, after=long)
    held = filled("quarantine", count, **common, field=["label"] * count, value=long, candidates=[long[:9]] * count)
    text = page(annotated(tmp_path, shard(messy().tables(), changes=changes, quarantine=held), models={}))
    assert len(text.encode()) < 1_000_000
    assert words(text).count("960 rules that did less are not shown.") == 2
    assert words(text).count(": 50 changed") == words(text).count(": 50 held back") == 40


def test_many_different_changes_are_counted_in_time(tmp_path: Path, record_property: Any) -> None:
    """200,000 boxes that all differ: counted in far less than a second, were the processor not others' too."""
    count = 200_000
    boxes = (
        pl.select(pl.format("[{}.0,{}.0,31.0,40.0]", pl.int_range(count) % 997, pl.int_range(count) // 997))
        .to_series()
        .to_list()
    )
    changes = filled(
        "changes",
        count,
        kind=["annotation"] * count,
        field=["bbox"] * count,
        rule=["bbox.convention"] * count,
        id=boxes,
        file_name=boxes,
        before=boxes,
        after=boxes,
    )
    dataset = annotated(tmp_path, shard(messy().tables(), changes=changes), models={})
    started = time.process_time()
    assert tally(dataset).changes == {"bbox.convention": count}
    seconds = time.process_time() - started
    record_property("seconds", seconds)
    assert seconds < 3


def test_a_real_run_can_be_read(shared: Path, tmp_path: Path) -> None:
    """The legend of 13,690 faces: other words for labels, capitals, eight names twice, one with two labels."""
    source = shared / "data" / "annotations" / "facial_expressions" / "legend.csv"
    output = tmp_path / "out"
    options = ["--runner=DirectRunner", "--input", str(source), "--output", str(output), "--no-export"]
    assert run_command(clean.main, options) == 0
    text = (output / "report" / "index.html").read_text(encoding="utf-8")
    assert "2 labels wait for a person's decision. 9 rows were held back by 2 rules" in words(text)
    (head, *rows) = table(text, "label.alias: 6,216 changed")
    assert head == ["Rows", "Before", "After", "For example"]
    assert rows[0][:3] == ["5,309", "happiness", "happy"]
    assert table(text, "Label files")[1][1:] == ["csv", "13,681", "corner and size (xywh), pixels"]
    assert "the same as 3bfc2479…-0, which stands" in words(text)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of the hostile data set."""
    dataset = hostile(tmp_path_factory.mktemp("evil") / "set")
    page(dataset)
    yield dataset.path / "report" / "index.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_it_can_be_read_on_any_screen(width: int, scheme: str, chromium: Any, evil: Path) -> None:  # noqa: F811
    """Nothing makes the page scroll sideways, every text has contrast, nothing runs and nothing is asked for."""
    with Visit(chromium, evil, width, color_scheme=scheme) as visit:
        visit.page.evaluate(OPEN)
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        seen = visit.page.evaluate(CONTRASTS)
        assert {pair: found for pair, found in seen.items() if found[0] < 4.5} == {}
        assert (visit.wrong, visit.asked) == ([], [visit.url])
        unnamed = "els => els.filter((el) => !el.getAttribute('aria-label')).length"
        assert visit.page.locator("pre, .scroll, svg").evaluate_all(unnamed) == 0


def test_the_page_without_a_note_is_about_expressions() -> None:
    """A label is no statement about feelings; a cleaned data set's page says instead that nothing is lost."""
    assert b"no statement about what a person feels" in render("", "", [], [])
