"""The report says in HTML what the tables say, whatever they hold, and harms nobody who opens it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.dataset import Dataset
from pipelines.report import write_report
from pipelines.report.evaluation import evaluated
from pipelines.report.numbers import SCALES, measure
from pipelines.report.page import cell, render
from pipelines.report.sections import meanings
from pipelines.report.words import cut, decimal, percent, printed
from schemas.reasons import Outcome, Rule
from schemas.tables import CROPS, TABLES, Tables, parquet_bytes, schema
from tests.builders import LABELS, face, picture, tables
from tests.pipelines.conftest import run

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>\u202egpj.\x00\udcff'
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


def filled(name: str, rows: int, **columns: Any) -> pa.Table:
    """Return a table with these columns; the others are null."""
    expected = schema(name, LABELS)
    assert not columns.keys() - set(expected.names)
    return pa.table([pa.array(columns.get(each.name, [None] * rows), each.type) for each in expected], schema=expected)


def committed(folder: Path, *shards: Mapping[str, pa.Table], labels: Sequence[str] = LABELS, **told: Any) -> Dataset:
    """Return a data set with one commit for each shard; a table that is not named is empty."""
    for epoch, shard in enumerate(shards, 1):
        files = {}
        for name in {*TABLES, *shard}:
            path = folder / name / f"{epoch:08d}-0000.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parquet_bytes(shard.get(name, schema(name, labels).empty_table()), {}))
            files[name] = [{"path": f"{name}/{path.name}", "size": path.stat().st_size}]
        manifest = {
            "epoch": epoch,
            "version": "0.1.0",
            "configuration": {"detector": {"name": "yunet"}, "detect_threshold": None, "max_bytes": 268435456},
            "configuration_hash": "043dba1dfba6b11086195b1d7b2806d3",
            "models": {"detector": {"name": "yunet"}, "classifier": {"name": "expression8", "labels": list(labels)}},
            "labels": list(labels),
            "roots": [],
            "supersedes": [],
            "tables": files,
            "committed_at": "2026-11-21T12:25:36Z",
        } | told
        path = folder / "_manifests" / f"{epoch:08d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(manifest))
    return Dataset(folder)


def shard(made: Tables, **others: pa.Table) -> dict[str, pa.Table]:
    """Return a shard's tables by name, some of them replaced."""
    return {name: table for name, table in made.named() if name != CROPS} | others


def told(dataset: Dataset, **others: Any) -> dict[str, Any]:
    """Return the data set's counts as a run's summary gives them."""

    def counts(table: str, column: str) -> dict[str, int]:
        return dict(dataset.scan(table).group_by(column).len().sort(column).collect().iter_rows())

    outcomes = dict.fromkeys(map(str, Outcome), 0) | counts("images", "outcome")
    outcomes["failed"] = dataset.scan("failures").select(pl.len()).collect().item()
    items = sum(outcomes.values())
    rules = counts("quarantine", "rule")
    for rule, count in counts("changes", "rule").items():
        rules[rule] = rules.get(rule, 0) + count
    return {
        "items": items,
        "outcomes": outcomes,
        "skipped": 0,
        "annotations": dataset.scan("annotations").select(pl.len()).collect().item(),
        "labels": counts("annotations", "label"),
        "small_faces": 0,
        "rules": rules,
        "errors": counts("failures", "error"),
        "this_run": {"items": items, "outcomes": outcomes, "seconds": 4.0},
    } | others


def written(dataset: Dataset, **others: Any) -> str:
    """Return the page of a data set."""
    write_report(dataset, told(dataset, **others))
    return (dataset.path / "report" / "index.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """Return what a page says: without its style and its tags, white space as one blank."""
    body = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def table(page: str, caption: str) -> list[list[str]]:
    """Return the rows of the first table with this caption, its head first."""
    own = next(each for each in re.findall(r"<table.*?</table>", page, re.DOTALL) if f"<caption>{caption}<" in each)
    rows = re.findall(r"<tr>.*?</tr>", own, re.DOTALL)
    return [[words(each) for each in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def failures(*each: tuple[str, str]) -> pa.Table:
    """Return failed items (error, file name)."""
    return filled(
        "failures",
        len(each),
        item_key=[f"{number}" for number in range(len(each))],
        step=["decode"] * len(each),
        error=[error for error, _ in each],
        file_name=[name for _, name in each],
        message=[f"{name} is {error}" for error, name in each],
    )


def film(name: str, labels: Sequence[str | None], every_ms: float = 1000.0) -> list[dict[str, Any]]:
    """Return the frames of a video; where a label is null a frame has no face."""
    return [
        picture(
            name,
            *([] if label is None else [face(label=label)]),
            image_id=f"{name}-{number}",
            video_id=name,
            frame_index=number,
            pts_ms=number * every_ms,
        )
        for number, label in enumerate(labels)
    ]


EVALUATION: dict[str, Any] = {
    "overall": {
        "accuracy": {"value": 0.75, "low": 0.7, "high": 0.8},
        "macro_f1": {"value": 0.6, "low": 0.5, "high": 0.7},
        "coverage": {"value": 0.96},
        "ece": {"value": 0.04, "low": 0.03, "high": 0.05},
    },
    "per_class": [
        {"label": "happy", "support": 90, "precision": 0.9, "recall": 0.8, "f1": 0.85},
        {"label": "sad", "support": 30, "precision": 0.5, "recall": 0.4, "f1": 0.44},
    ],
    "confusion": {"labels": ["happy", "sad"], "counts": [[72, 18], [18, 12]]},
    "reliability": [
        {
            "low": number / 10,
            "high": (number + 1) / 10,
            "count": 12,
            "confidence": (number + 0.5) / 10,
            "accuracy": accuracy,
        }
        for number, accuracy in enumerate((0.05, 0.2, 0.22, 0.41, 0.4, 0.6, 0.62, 0.7, 0.9, 0.97))
    ],
    "boxes": {"precision": 0.98, "matched": 1200},
    "votes": None,
}


def test_a_run_can_be_read(pictures: Path, tmp_path: Path) -> None:
    """The page of a run on pictures has the run's numbers, and every image with its outcome."""
    (pictures / "empty.jpg").write_bytes(b"")
    assert run(tmp_path / "out", pictures, options=["--crops"]) == 0
    dataset = Dataset(tmp_path / "out")
    write_report(dataset, json.loads((tmp_path / "out" / "report" / "summary.json").read_bytes()))
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<title>out – labelstream report</title>" in page
    assert [row[:2] for row in table(page, "Items by outcome")[1:]] == [
        ["labelled", "2"],
        ["no face", "1"],
        ["duplicate", "0"],
        ["quarantined", "0"],
        ["failed", "1"],
    ]
    assert table(page, "Failures by error")[1:] == [["empty", "1", "empty.jpg The file has 0 bytes."]]
    assert "67 % of 3 pictures hold a face. 1 item failed: 1 empty." in words(page)
    assert page.count("data:image/jpeg;base64,") == 6  # three faces, in both galleries


def test_numbers_are_the_tables_own(tmp_path: Path) -> None:
    """Faces per picture, labels, sizes and failures are counted over all commits."""
    first = tables(picture("a.jpg", face(confidence=0.4), face(label="sad", confidence=0.6)), picture("b.jpg"))
    second = tables(picture("c.jpg", face(box=(0, 0, 30, 70), label="sad", confidence=0.8)))
    lost = failures(("truncated", "x.jpg"), ("truncated", "y.jpg"), ("truncated", "z.jpg"), ("empty", "e.jpg"))
    page = written(committed(tmp_path, shard(first), shard(second, failures=lost)))
    assert table(page, "Pictures by number of faces")[1:] == [
        ["0", "1", "33 %"],
        ["1", "1", "33 %"],
        ["2", "1", "33 %"],
    ]
    assert table(page, "Faces by label")[1:] == [["sad", "2", "67 %"], ["happy", "1", "33 %"]]
    assert table(page, "Mean confidence by label")[1:] == [["sad", "0.700", "2"], ["happy", "0.400", "1"]]
    assert table(page, "Longer side of the box, pixels")[1:] == [["64–91", "1", "33 %"], ["91–128", "2", "67 %"]]
    assert table(page, "Failures by error")[1:] == [
        ["truncated", "3", "x.jpg x.jpg is truncated y.jpg y.jpg is truncated"],  # two examples each
        ["empty", "1", "e.jpg e.jpg is empty"],
    ]
    assert "67 % of 3 pictures hold a face. 4 items failed: 3 truncated and 1 empty." in words(page)
    assert "No face was labelled angry or disgust or fear or surprise or neutral." in words(page)


def test_rules_are_counted_and_explained(tmp_path: Path) -> None:
    """What was held back and what was changed are told apart, with what the rule means."""
    held = filled("quarantine", 2, kind=["annotation"] * 2, rule=["duplicate.annotation"] * 2)
    changed = filled("changes", 3, kind=["annotation"] * 3, rule=["bbox.clipped"] * 3)
    page = written(committed(tmp_path, shard(tables(picture("a.jpg", face())), quarantine=held, changes=changed)))
    clipped, doubled = table(page, "Rows by rule")[1:]
    assert clipped[:4] == ["bbox.clipped", "3", "0", "3"] and doubled[:4] == ["duplicate.annotation", "2", "2", "0"]
    assert doubled[4] == "A box of the same picture already stands for this face, or says the same of it."
    assert table(page, "Quarantined rows by rule")[1][:2] == ["duplicate.annotation", "2"]


def test_every_rule_is_explained() -> None:
    """No rule of the enum is without the text that the page shows."""
    assert meanings().keys() == {str(rule) for rule in Rule}
    assert all(meanings().values())


def test_labels_over_time(tmp_path: Path) -> None:
    """A video's frames are counted by time and by the label of the best face; what has no face is a gap."""
    frames = film("v.mp4", ["happy"] * 3 + [None] * 2 + ["sad"])
    frames[0]["faces"].append(face(label="angry", score=0.1))  # the second face of a frame counts for nothing here
    page = written(committed(tmp_path, shard(tables(*frames, picture("still.jpg", face())))))
    assert table(page, "Frames by time and label") == [
        ["From", "Frames", "happy", "sad", "No face"],
        ["0:00", "1", "1", "0", "0"],
        ["0:01", "1", "1", "0", "0"],
        ["0:02", "1", "1", "0", "0"],
        ["0:03", "1", "0", "0", "1"],
        ["0:04", "1", "0", "0", "1"],
        ["0:05", "1", "0", "1", "0"],
    ]
    assert "0:06 long, 6 frames, a face in 67 %; mostly happy (75 % of these)." in words(page)
    assert "angry" not in words(page.split('id="videos"')[1].split("</section>")[0])


def test_the_longest_videos_are_shown(tmp_path: Path) -> None:
    """Twelve videos have a chart, the longest first; the others are counted."""
    films = [frame for number in range(15) for frame in film(f"v{number:02}.mp4", ["happy"] * (number + 2))]
    page = written(committed(tmp_path, shard(tables(*films))))
    shown = re.findall(r"<h3>(v\d\d)\.mp4</h3>", page)
    assert shown == [f"v{number:02}" for number in range(14, 2, -1)]
    assert "15 videos." in words(page) and "The 12 longest are shown, 3 are left out." in words(page)


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.sampled_from([None, "happy", "sad"]), min_size=1, max_size=200),
    every_ms=st.floats(0.01, 1e6),
)
def test_no_frame_is_lost_in_time(
    labels: list[str | None], every_ms: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The bins of a video hold all its frames, and evenly, however many there are and however far apart."""
    folder = tmp_path_factory.mktemp("film")
    (video,) = measure(committed(folder, shard(tables(*film("v.mp4", labels, every_ms)))), []).videos
    assert sum(video.frames) == len(labels)
    assert sum(map(sum, video.labels.values())) == sum(label is not None for label in labels)
    assert max(video.frames) - min(video.frames) <= 1


def test_frames_that_repeat_another_show_its_face(tmp_path: Path) -> None:
    """A duplicate of a frame is no gap."""
    frames = film("v.mp4", ["happy", None])
    frames[1] |= {"outcome": "duplicate", "duplicate_of": frames[0]["image_id"]}
    (video,) = measure(committed(tmp_path, shard(tables(*frames))), []).videos
    assert video.labels == {"happy": (1, 1)}


finite = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.none()


@settings(max_examples=25, deadline=None)
@given(values=st.lists(finite, min_size=1, max_size=50), column=st.sampled_from(sorted(SCALES)))
def test_every_number_is_in_one_bin(
    values: list[float | None], column: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A histogram counts each finite value once, in the bin whose edges hold it; the outer ones take the rest."""
    name = {"size": "bbox_w"}.get(column, column)
    count = len(values)
    rows = filled("annotations", count, annotation_id=list(map(str, range(count))), **{name: values})
    bins = measure(committed(tmp_path_factory.mktemp("bins"), {"annotations": rows}), []).bins[column]
    known = [value for value in values if value is not None and math.isfinite(value)]
    assert sum(bins.values()) == len(known)
    scale = SCALES[column]
    for value in known:
        place = math.log2(max(value, 1e-9)) if scale.log else value
        number = min(scale.bins - 1, max(0, math.floor((place - scale.low) / scale.width + 1e-6)))
        assert bins.get(number, 0) > 0


def test_head_pose_only_where_it_is_known(tmp_path: Path) -> None:
    """Without angles there is no section; with them, one chart for each that is known."""
    assert "Head pose" not in written(committed(tmp_path / "a", shard(tables(picture("a.jpg", face())))))
    turned = tables(picture("a.jpg", face(yaw=-45.0, pitch=5.0), face(yaw=10.0, pitch=0.0)))
    page = written(committed(tmp_path / "b", shard(turned)))
    assert "Turned by more than 30°: 50 % to the side, 0 % up or down." in words(page)
    assert re.findall(r"<h3>(Yaw|Pitch|Roll)</h3>", page) == ["Yaw", "Pitch"]


def test_faces_are_named_where_no_crops_are_stored(tmp_path: Path) -> None:
    """The least certain faces come first, and not a pixel of them is in the page."""
    each = [
        picture(f"{number}.jpg", face(confidence=number / 100, sharpness=100.0 - number)) for number in range(1, 40)
    ]
    page = written(committed(tmp_path, shard(tables(*each))))
    certain, sharp = table(page, "Least certain")[1:], table(page, "Least sharp")[1:]
    assert [row[0] for row in certain] == [f"{number}.jpg" for number in range(1, 25)]
    assert [row[0] for row in sharp] == [f"{number}.jpg" for number in range(39, 15, -1)]
    assert "data:image" not in page and "with --crops" in words(page)


def test_crops_are_shown_within_a_budget(tmp_path: Path) -> None:
    """Crops are embedded until the page has enough; the other faces, and what is no JPEG, are named."""
    each = [picture(f"{number}.jpg", face(confidence=number / 100, sharpness=float(number))) for number in range(1, 30)]
    made = tables(*each)
    ids = made.annotations["annotation_id"].to_pylist()
    jpegs = [b"<svg onload=alert(1)>", *[JPEG + bytes(100_000)] * 28]
    page = written(committed(tmp_path, shard(made, crops=filled(CROPS, 29, annotation_id=ids, crop=jpegs))))
    assert page.count("<img ") == 11  # of 100 kB each, in 1.2 MB
    assert len(page) < 3_000_000
    assert table(page, "Least certain")[1][0] == "1.jpg"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Names of files, videos, labels, errors and options can neither leave their place nor turn the line."""
    name, label = HOSTILE.replace("\udcff", ""), "<b>joy</b>\u202e"
    frames = film(name, [label, None])
    made = tables(picture(name, face(label=label)), *frames, labels=(*LABELS, label))
    lost = failures((f"<i>{name}", name))
    (tmp_path / "<u>set").mkdir()
    folder = tmp_path / "<u>set"
    (folder / "report").mkdir()
    evil = {"overall": {name: {"value": 1}}, "per_class": [{"label": name}], "boxes": {name: {name: [name]}}}
    (folder / "report" / "evaluation.json").write_text(json.dumps(evil))
    options = {"configuration": {name: name}, "models": {"detector": {"name": name}}, "configuration_hash": name}
    page = written(committed(folder, shard(made, failures=lost), labels=(*LABELS, label), **options))
    for mark in ("<img src=x", "<script", "</script", "<b>", "<i>", "<u>", "\u202e", "\x00"):
        assert mark not in page
    assert words(page).count("onerror=alert(1)") >= 10
    assert "<b>joy</b>\\u202e" in unescape(page)


def test_nothing_is_asked_for(tmp_path: Path) -> None:
    """The page names nothing outside itself, has no script, and forbids both."""
    page = written(committed(tmp_path, shard(tables(picture("a.jpg", face()), *film("v.mp4", ["happy", None])))))
    assert "default-src 'none'; style-src 'sha256-" in page
    assert not re.search(
        r"<script|@import|url\(|\bsrc=(?!\"data:)|\bon\w+=|\bstyle=|<link|<iframe|<object|https?://", page
    )
    assert re.findall(r'href="(?!#)', page) == []


def test_every_chart_has_its_words_and_its_table(tmp_path: Path) -> None:
    """Each figure has a heading, a sentence, a chart with a name, and the same numbers as a table."""
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "evaluation.json").write_text(json.dumps(EVALUATION))
    made = tables(picture("a.jpg", face(yaw=1.0)), *film("v.mp4", ["happy", None]))
    steps = {"decode": 1.0, "detect": 2.0, "infer": 1.0}
    page = written(committed(tmp_path, shard(made)), steps=steps)
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert len(figures) == 13
    for figure in figures:
        assert "Pygal" not in figure  # the name that a chart without a title would be given
        assert re.search(r"<h3>.+</h3>\s*<p>.+</p>", figure)
        assert re.search(
            r'<svg class="chart" viewBox="0 0 \d+ \d+" role="img" aria-label="[^"]+">.*<(rect|circle) ', figure
        )
        assert re.search(r"<details( open)?>.*<table>.*<th scope=\"row\"", figure, re.DOTALL)
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_bottleneck_is_named(tmp_path: Path) -> None:
    """The step that takes most of the time is named in a sentence; without times there is none."""
    dataset = committed(tmp_path, shard(tables(picture("a.jpg", face()))))
    page = written(dataset, steps={"decode": 1.0, "detect": 2.5, "align": 0.0, "infer": 1.5})
    assert "1 item in 4.0 s, start-up included: 0.250 items/s." in words(page)
    assert "The bottleneck is detect: 50 % of the time in all steps." in words(page)
    assert table(page, "Seconds by step")[1] == ["decode", "1.00", "20 %", "1.00"]
    assert "The bottleneck" not in written(dataset)
    idle = written(dataset, this_run={"items": 0, "outcomes": {}, "seconds": 1.0})
    assert "Nothing new to do: this run ended after 1.0 s." in words(idle)


def test_an_evaluation_is_shown(tmp_path: Path) -> None:
    """Figures with their intervals, each label, the confusion and what else there is."""
    dataset = committed(tmp_path, shard(tables(picture("a.jpg", face()))))
    assert "Evaluation" not in written(dataset)
    (tmp_path / "report" / "evaluation.json").write_text(json.dumps(EVALUATION))
    page = written(dataset)
    assert "accuracy 0.750 (0.700–0.800), macro F1 0.600 (0.500–0.700), coverage 0.960" in words(page)
    assert table(page, "By label")[1] == ["happy", "90", "0.900", "0.800", "0.850"]
    assert table(page, "Boxes and votes")[1:] == [["boxes.precision", "0.980"], ["boxes.matched", "1,200"]]
    assert '<td class="n shade-8">72</td><td class="n shade-2">18</td>' in page
    assert "Below the dashed line the model is surer than it is right: 4 of 10 bins." in words(page)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*EVALUATION, "value", "label", "labels", "counts", "low"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(told_of=st.dictionaries(st.sampled_from(sorted(EVALUATION)), json_values))
@example(told_of={"overall": {"ece": {"value": 10**400, "low": math.nan}}})
@example(told_of={"per_class": [{"label": 3, "support": math.inf, "f1": "x"}, 4, {"label": None}]})
@example(told_of={"confusion": {"labels": [3, "a"], "counts": [[1, math.nan], [None, 10**400]]}})
@example(told_of={"confusion": {"labels": ["a", "b"], "counts": [[1], [2, 3, 4]]}})
@example(
    told_of={
        "reliability": [{"confidence": 2, "accuracy": -1}, {"confidence": 0.5, "accuracy": 0.5, "count": math.inf}]
    }
)
def test_any_evaluation_is_borne(told_of: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands in evaluation.json, the section is made of what can be used."""
    path = tmp_path_factory.mktemp("evaluation") / "evaluation.json"
    path.write_text(json.dumps(told_of))
    section = evaluated(path)
    assert section is not None
    assert b"Against known labels" in render("", "", [], [section])


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"overall": {}}' + " " * (5 << 20)])
def test_an_evaluation_that_cannot_be_read_is_left_out(text: str, tmp_path: Path) -> None:
    """Broken or huge, it costs its section and nothing else."""
    dataset = committed(tmp_path, shard(tables(picture("a.jpg", face()))))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "evaluation.json").write_text(text)
    assert "Evaluation" not in written(dataset)


def test_an_empty_data_set_has_a_page(tmp_path: Path) -> None:
    """Nothing committed, nothing found, all failed: each has a page that says so."""
    (tmp_path / "new" / "_manifests").mkdir(parents=True)
    assert "There are no items yet." in words(written(Dataset(tmp_path / "new")))
    bare = written(committed(tmp_path / "bare", shard(tables(picture("a.jpg"), picture("b.jpg")))))
    assert "0 % of 2 pictures hold a face. Nothing failed." in words(bare)
    lost = written(committed(tmp_path / "lost", {"failures": failures(("empty", "a.jpg"))}))
    assert "No picture could be looked at. 1 item failed: 1 empty." in words(lost)


def test_the_same_data_set_gives_the_same_page(tmp_path: Path) -> None:
    """No time, no random name: the page changes only with what it tells."""
    dataset = committed(tmp_path, shard(tables(picture("a.jpg", face()), *film("v.mp4", ["happy", None, "sad"]))))
    assert written(dataset) == written(dataset)


def test_what_was_taken_back_is_not_told(tmp_path: Path) -> None:
    """Rows that a later commit superseded are in no number."""
    old = tables(picture("a.jpg", face(label="sad"), item_key="k"))
    new = tables(picture("a.jpg", face(label="happy"), item_key="k"))
    committed(tmp_path, shard(old), shard(new))
    manifest = tmp_path / "_manifests" / "00000002.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"supersedes": ["k"]}))
    assert table(written(Dataset(tmp_path)), "Faces by label")[1:] == [["happy", "1", "100 %"]]


@given(st.text(st.characters(codec=None), max_size=400))
def test_printed_text_is_visible_and_short(text: str) -> None:
    """Text of unknown origin comes out printable; what was printable and short is unchanged."""
    shown = printed(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * (160 + 3)
    if text.isprintable() and len(text) <= 160:
        assert shown == text


@given(st.floats(0, 1))
@example(0.002)
@example(0.998)
def test_only_all_and_nothing_look_so(share: float) -> None:
    """No share is rounded to 0 % or 100 %, and no confidence under 1 to 1."""
    assert (percent(share) == "0\xa0%") == (share == 0)
    assert (percent(share) == "100\xa0%") == (share == 1)
    if share < 1:
        assert not decimal(share).startswith("1") and not cut(share).startswith("1")


@pytest.mark.parametrize(
    ("value", "expected"), [(1234567, "1,234,567"), (None, "–"), (math.nan, "–"), (0.5, "0.500"), ("<b>", "&lt;b&gt;")]
)
def test_cells(value: Any, expected: str) -> None:
    """Numbers are grouped, what is not there is a dash, text is escaped."""
    assert str(cell(value)) == expected
