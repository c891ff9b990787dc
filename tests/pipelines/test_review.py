"""What a person asks of a data set and tells it: explained, taken back, written out for review, decided."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines import review
from pipelines.dataset import Dataset
from pipelines.export import export_all
from schemas.errors import UsageError
from schemas.reasons import RECORDED, Rule, meanings
from schemas.tables import TABLES
from tests.builders import face, picture, tables
from tests.pipelines.conftest import outcomes, run
from tests.pipelines.holding import commit
from tests.transforms.messes import Mess, label
from transforms.edits import Row
from transforms.rules import clean


@pytest.fixture
def mess() -> Mess:
    """Four pictures: a repaired label, two that wait, one label on a copy."""
    made = Mess(
        picture("a.jpg", label("catt"), label("dog", (200, 20, 50, 50))),
        picture("b.jpg", label("bull")),
        picture("c.jpg", label("cat", None)),
        picture("d.jpg", label("catt")),
    )
    a, b, c, d = (row["image_id"] for row in made.images)
    made.change(f"{a}-0", Rule.LABEL_SPELLING, label="cat")
    made.hold(f"{b}-0", Rule.LABEL_NEEDS_REVIEW, Rule.BBOX_OUTLIER, candidates=["ball", "bill"])
    made.hold(f"{c}-0", Rule.LABEL_SUSPECT)
    made.hold(f"{d}-0", Rule.LABEL_NEEDS_REVIEW)
    made.merge(d, a, Rule.DUPLICATE_EXACT)
    return made


@pytest.fixture
def dataset(mess: Mess, tmp_path: Path) -> Dataset:
    """The data set of these pictures."""
    return Dataset(commit(tmp_path / "out", mess.tables()))


def filled(path: Path, fill: Callable[[Row], Row]) -> None:
    """Fill in a review file, row by row, and save it as a spreadsheet would."""
    rows = [row | fill(row) for row in csv.DictReader(path.read_text("utf-8-sig").splitlines())]
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        table = csv.DictWriter(out, rows[0].keys(), delimiter=";")
        table.writeheader()
        table.writerows(rows)


def decide(dataset: Dataset, path: Path, reviewer: str = "anna") -> tuple[list[str], bool]:
    return review.decide(dataset, str(path), reviewer)


def stored(dataset: Dataset, table: str = "annotations") -> list[Row]:
    return Dataset(dataset.path).scan(table).collect().to_dicts()


# ---- explain


def test_every_rule_says_what_it_means() -> None:
    """The text below its name is what a person reads."""
    assert set(meanings()) == set(Rule) and all(meanings().values())
    assert meanings()[Rule.LABEL_SPELLING] == "The label was a misspelling of exactly one name of the vocabulary."


def test_a_rule_is_explained_with_examples(dataset: Dataset, mess: Mess) -> None:
    """What it means, how often it did what, and where."""
    a, b, *_ = (row["image_id"] for row in mess.images)
    assert review.explain(dataset, "label.spelling") == [
        "label.spelling: The label was a misspelling of exactly one name of the vocabulary.",
        "It changed 1 values and held back 0 rows.",
        f"  a.jpg ({a}-0): label 'catt' -> 'cat', confidence 1.00",
    ]
    lines = review.explain(dataset, "label.needs_review")
    assert lines[1] == "It changed 0 values and held back 2 rows."
    assert f"  b.jpg ({b}-0): label 'bull': because; candidates ball, bill" in lines


def test_the_most_frequent_changes_come_first(tmp_path: Path) -> None:
    """Counted, and at most twenty; then as many examples."""
    made = Mess(*(picture(f"{at:02}.jpg", label("catt" if at % 3 else "dgo")) for at in range(40)))
    for identity in made.ids():
        made.change(
            identity, Rule.LABEL_SPELLING, label="cat" if made.annotations[identity]["label"] == "catt" else "dog"
        )
    lines = review.explain(Dataset(commit(tmp_path / "out", made.tables())), "label.spelling")
    assert lines[2:4] == ["  26 x label 'catt' -> 'cat'", "  14 x label 'dgo' -> 'dog'"]
    assert len(lines) == 4 + review.MOST_SHOWN


def test_hostile_texts_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    """Neither of labels nor of names, nor of what a review file holds."""
    evil = "\x1b]0;x\x07\u202e"
    made = Mess(picture(f"a{evil}.jpg", label(f"cat{evil}")), picture("b.jpg", label(f"dog{evil}")))
    made.change(made.ids()[0], Rule.LABEL_ALIAS, label="cat")
    made.hold(made.ids()[1], Rule.LABEL_ALIAS, candidates=[evil])
    dataset = Dataset(commit(tmp_path / "out", made.tables()))
    path = tmp_path / "d.jsonl"
    words = {"id": made.ids()[0], "decision": "accept", "reviewer": f"anna{evil}"}
    path.write_text("\n".join(json.dumps(words | more) for more in ({}, {}, {"id": evil}, {"decision": evil})))
    lines = [*review.explain(dataset, "label.alias"), *decide(dataset, path)[0]]
    assert len(lines) == 8 and all(line.isprintable() for line in lines)


def test_an_idle_rule_says_so_and_an_unknown_one_is_refused(dataset: Dataset) -> None:
    """Both with what there is instead."""
    told = "Rules that did something here: bbox.outlier (1), duplicate.exact (1), label.needs_review (2), "
    assert review.explain(dataset, "image.size")[1].startswith(f"It did nothing here. {told}")
    for ask in (review.explain, review.undo):
        with pytest.raises(
            UsageError, match=r"no rule 'label\.speling'\. Rules that did something here: bbox\.outlier \(1\)"
        ):
            ask(dataset, "label.speling")


def test_a_persons_own_expectation_is_a_rule(tmp_path: Path) -> None:
    """It is explained and taken back like ours, also from under a person's word."""
    made = Mess(picture("a.jpg", label("cat"), label("dog")))
    for at, identity in enumerate(made.ids()):
        made.hold(identity, Rule.LABEL_NEEDS_REVIEW)
        made.quarantine[at]["rule"] = "own.größe"
    dataset = Dataset(commit(tmp_path / "out", made.tables()))
    assert review.explain(dataset, "own.größe")[0] == "own.größe: An expectation of your own."
    (tmp_path / "d.jsonl").write_text(json.dumps({"id": made.ids()[0], "decision": "accept"}))
    decide(dataset, tmp_path / "d.jsonl")
    lines, changed = review.undo(dataset, "own.größe")
    assert changed and lines == ["own.größe: 2 annotations stand again"]
    review.undo(dataset, "person.decision")
    assert {row["origin"] for row in stored(dataset)} == {"import"}


# ---- undo


def test_an_undo_says_what_it_did(dataset: Dataset) -> None:
    """And that it did nothing, the second time; readers and exports see the values that stand again."""
    assert review.undo(dataset, "label.spelling") == (
        ["label.spelling: 1 values are again what they were before"],
        True,
    )
    assert {row["label"] for row in stored(dataset)} == {"dog", "catt"}
    assert review.undo(dataset, "label.spelling") == (["label.spelling: there was nothing to take back"], False)
    export_all(dataset, "expression")
    coco = json.loads((dataset.path / "exports/annotations/instances.json").read_bytes())
    assert [each["name"] for each in coco["categories"]][-1] == "catt"


def test_undone_one_by_one_it_is_as_it_came(dataset: Dataset, mess: Mess) -> None:
    """Every rule that did something, through the data set."""
    for rule in review.rules_here(dataset):
        review.undo(dataset, rule)
    assert sorted(row["label"] for row in stored(dataset)) == ["bull", "cat", "catt", "catt", "dog"]
    assert not stored(dataset, "quarantine") and not stored(dataset, "changes")
    assert {row["outcome"] for row in stored(dataset, "images")} == {"labelled"}


def test_what_only_records_cannot_be_taken_back(dataset: Dataset) -> None:
    """It says so."""
    for rule in RECORDED:
        with pytest.raises(UsageError, match="only records what it finds"):
            review.undo(dataset, rule)


def test_labels_without_a_picture_stay(tmp_path: Path) -> None:
    """It is told how many."""
    made = Mess(picture("a.jpg", label("cat")), picture("b.jpg", label("cat")))
    made.hold(made.ids()[1], Rule.REFERENCE_UNREADABLE)
    del made.images[1]
    lines, changed = review.undo(Dataset(commit(tmp_path / "out", made.tables())), "reference.unreadable")
    assert not changed
    assert lines[1:] == ["1 annotations stay held back: they have no picture to stand on"]


# ---- review files


def test_what_waits_is_written_once_each(dataset: Dataset, mess: Mess, tmp_path: Path) -> None:
    """By name, with all its reasons; what is on a copy could not stand, and does not wait."""
    lines = review.write_review(dataset, str(tmp_path / "r.csv"))
    assert lines == [f"{tmp_path / 'r.csv'}: 2 annotations wait for a person's decision"]
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text("utf-8-sig").splitlines()))
    assert [row["picture"] for row in rows] == ["b.jpg", "c.jpg"]
    assert rows[0]["id"] == f"{mess.images[1]['image_id']}-0"
    assert rows[0]["reason"] == "label.needs_review: because; bbox.outlier: because"
    assert json.loads(rows[0]["candidates"]) == ["ball", "bill"]
    assert (rows[0]["box"], rows[1]["box"]) == ("[10.0, 20.0, 100.0, 120.0]", "")
    assert rows[0]["source_uri"] == "in/b.jpg"


def test_what_is_on_a_held_picture_does_not_wait(tmp_path: Path) -> None:
    """Whatever a person said of it, it could not stand there."""
    made = Mess(picture("a.jpg", label("bull")), picture("b.jpg", label("bull")))
    for identity in made.ids():
        made.hold(identity, Rule.LABEL_NEEDS_REVIEW)
    made.hold_picture(made.images[0]["image_id"], Rule.IMAGE_SIZE)
    assert [row.picture for row in review.waiting(Dataset(commit(tmp_path / "out", made.tables())))] == ["b.jpg"]


def test_frames_and_ranks_are_in_their_order(tmp_path: Path) -> None:
    """The tenth label comes after the second, the tenth frame too."""
    made = Mess(
        *(
            picture("v.mp4", *[label("bull") for _ in range(11)], frame_index=at, image_id=f"{99 - at:064d}")
            for at in (10, 2)
        )
    )
    for identity in made.ids():
        made.hold(identity, Rule.LABEL_NEEDS_REVIEW)
    rows = review.waiting(Dataset(commit(tmp_path / "out", made.tables())))
    assert [(row.frame, int(row.id.split("-")[1])) for row in rows] == [
        (at, rank) for at in (2, 10) for rank in range(11)
    ]


# ---- decisions


def test_decisions_come_back(dataset: Dataset, tmp_path: Path) -> None:
    """Of a file that a spreadsheet saved; refused lines are told with their number, the rest is applied."""
    path = tmp_path / "r.csv"
    review.write_review(dataset, str(path))
    words = {"b.jpg": {"decision": "relabel", "new_label": "Bird "}, "c.jpg": {"decision": "accepted"}}
    filled(path, lambda row: words[row["picture"]])
    lines, changed = decide(dataset, path)
    assert changed and lines == [
        "line 3: the decision 'accepted' is unknown: expected accept, relabel, rebox, both, reject",
        "1 decisions taken (1 relabel), 1 refused",
    ]
    [row] = [row for row in stored(dataset) if row["origin"] == "person"]
    assert (row["label"], row["confidence"]) == ("bird", 1.0)
    assert dataset.manifests[-1].told["rewrite"]["relabel"] == 1
    assert [each.picture for each in review.waiting(dataset)] == ["c.jpg"]
    assert review.explain(dataset, "person.decision")[1:3] == [
        "It changed 2 values and held back 0 rows.",
        f"  b.jpg ({row['annotation_id']}): label 'bull' -> 'bird', by anna, confidence 1.00",
    ]
    review.undo(dataset, "label.needs_review")  # it is taken out from under the person's word, which stands
    review.undo(dataset, "bbox.outlier")
    assert [row["label"] for row in stored(dataset) if row["origin"] == "person"] == ["bird"]
    assert review.undo(dataset, "person.decision") == (["person.decision: 1 decisions were taken back"], True)
    assert "bull" in {row["label"] for row in stored(dataset)}


def test_the_same_file_twice_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    """Each line is refused as given already, and nothing is committed."""
    path = tmp_path / "r.csv"
    review.write_review(dataset, str(path))
    filled(path, lambda row: {"decision": "reject" if row["picture"] == "b.jpg" else "accept"})
    assert decide(dataset, path)[1]
    commits = len(dataset.manifests)
    lines, changed = decide(Dataset(dataset.path), path)
    assert not changed and len(Dataset(dataset.path).manifests) == commits
    assert lines == ["line 2: already given by anna", "line 3: already given by anna", "0 decisions taken, 2 refused"]


def test_any_annotation_may_be_decided(dataset: Dataset, mess: Mess, tmp_path: Path) -> None:
    """Not only what waits: a label that stands too; unknown ids are refused."""
    path = tmp_path / "d.jsonl"
    one = f"{mess.images[0]['image_id']}-1"
    words = [{"id": one, "decision": "rebox", "new_box": [1, 2, 30, 40]}, {"id": "nobody", "decision": "accept"}]
    path.write_text("\n".join(map(json.dumps, words)))
    lines, _ = decide(dataset, path)
    assert lines == ["line 2: no annotation has the id 'nobody'", "1 decisions taken (1 rebox), 1 refused"]
    row = next(row for row in stored(dataset) if row["annotation_id"] == one)
    assert (row["bbox_x"], row["w"], row["label"]) == (1, pytest.approx(30 / 640), "dog")


def test_the_vocabulary_is_the_data_sets_own(tmp_path: Path) -> None:
    """Folded; with the aliases of expressions where these are its labels. Another may be given."""
    whole = clean(tables(picture("a.jpg", face(), face((300, 20, 50, 50))), picture("b.jpg", face())))
    dataset = Dataset(commit(tmp_path / "out", whole, categories=["happy", "sad"]))
    ids = [row["annotation_id"] for row in stored(dataset)]
    path = tmp_path / "d.jsonl"
    names = ("JOY", "cat", "Sad")
    path.write_text(
        "\n".join(json.dumps({"id": i, "decision": "relabel", "new_label": n}) for i, n in zip(ids, names, strict=True))
    )
    lines, _ = decide(dataset, path)
    assert lines[0] == "line 2: the label 'cat' is not in the vocabulary: relabel it with one that is"
    assert [row["label"] for row in stored(dataset) if row["origin"] == "person"] == ["happy", "sad"]
    lines, _ = review.decide(dataset, str(path), "ben", canonical={"cat": "cat"}.get)
    assert "1 decisions taken" in lines[-1]


def test_people_who_differ_and_agree(dataset: Dataset, mess: Mess, tmp_path: Path) -> None:
    """Who differ put the label back into review, and the agreement of all is told."""
    a, b = (row["image_id"] for row in mess.images[:2])
    ids = [f"{a}-0", f"{a}-1", f"{b}-0"]
    said = {"anna": ("cat", "dog", "cat"), "ben": ("cat", "dog", "dog"), "eve": ("bird",)}
    for reviewer, names in said.items():
        path = tmp_path / f"{reviewer}.jsonl"
        words = [{"id": i, "decision": "relabel", "new_label": n} for i, n in zip(ids, names, strict=False)]
        path.write_text("\n".join(map(json.dumps, words)))
        decide(dataset, path, reviewer)
    told = review.agreement(dataset)
    assert told["reviewers"] == {"anna": 3, "ben": 3, "eve": 1}
    assert (told["annotations"], told["by_several"], told["disputed"]) == (3, 3, 1)
    assert told["pairs"] == [{"reviewers": ["anna", "ben"], "annotations": 3, "kappa": pytest.approx(0.4)}]
    assert told["alpha"] == pytest.approx(1 - 6 * (2 * 2 / 2 + 2) / (49 - 9 - 9 - 1))
    assert [(row.id, row.candidates) for row in review.waiting(dataset) if row.id == ids[2]] == [
        (ids[2], ["cat", "dog"])
    ]
    assert json.loads(json.dumps(told)) == told


def test_nobody_has_spoken(dataset: Dataset) -> None:
    """There is nothing to tell."""
    told = review.agreement(dataset)
    assert told["annotations"] == 0 and told["alpha"] is None and told["pairs"] == []


# ---- labels of a model


def test_a_models_labels_are_taken_back_and_decided(shared: Path, tmp_path: Path) -> None:
    """On real pictures: a cut box is whole again, a person's word stands, and a later run has nothing to do."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("face_recognition__obama_partial_face.jpg", "face_recognition__obama_partial_face2.jpg"):
        (folder / name).write_bytes((shared / "data/images/face" / name).read_bytes())
    out = tmp_path / "out"
    assert run(out, folder, options=["--crops"]) == 0
    dataset = Dataset(out)
    before = {table: dataset.scan(table).collect() for table in (*TABLES, "crops")}
    cut = before["changes"].filter(pl.col("rule") == "bbox.clipped")
    assert cut.height > 0
    lines, changed = review.undo(dataset, "bbox.clipped")
    assert changed and lines == [f"bbox.clipped: {cut.height} values are again what they were before"]
    after = dataset.scan("annotations").collect()
    whole = {row["id"]: json.loads(row["before"]) for row in cut.to_dicts()}
    for row in after.to_dicts():
        want = whole[row["annotation_id"]]
        assert [row[name] for name in ("bbox_x", "bbox_y", "bbox_w", "bbox_h")] == pytest.approx(want)
    kept = [
        name for name in after.columns if name not in ("bbox_x", "bbox_y", "bbox_w", "bbox_h", "cx", "cy", "w", "h")
    ]
    assert after.sort("annotation_id").select(kept).equals(before["annotations"].sort("annotation_id").select(kept))
    assert dataset.scan("crops").collect().sort("annotation_id").equals(before["crops"].sort("annotation_id"))
    path = tmp_path / "d.jsonl"
    [one, *_] = after["annotation_id"]
    path.write_text(json.dumps({"id": one, "decision": "both", "new_label": "sadness", "new_box": [5, 5, 50, 50]}))
    assert decide(dataset, path)[1]
    commits = len(dataset.manifests)
    assert run(out, folder, options=["--crops"]) == 0
    assert len(Dataset(out).manifests) == commits
    assert set(outcomes(out).values()) == {"labelled"}
    [row] = [row for row in stored(dataset) if row["annotation_id"] == one]
    assert (row["label"], row["origin"], row["model"] is not None) == ("sad", "person", True)
    coco = json.loads((out / "exports/annotations/instances.json").read_bytes())
    assert [5, 5, 50, 50] in [each["bbox"] for each in coco["annotations"]]
