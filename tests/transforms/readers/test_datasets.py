"""A data set of ours is read by its manifests: what stands, named as it was, with all that its tables tell."""

import json
from pathlib import Path

import polars as pl
import pytest

from schemas.errors import UsageError
from tests.builders import face, picture, tables
from tests.pipelines.committed import committed
from tests.transforms.readers.reading import read, said
from transforms.readers.datasets import is_dataset, is_one, source_of


def change(folder: Path, epoch: int, **members: object) -> None:
    """Change a manifest."""
    path = folder / "_manifests" / f"{epoch:06d}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


def test_labels_come_with_their_boxes_and_pictures_without_any_are_named(tmp_path: Path) -> None:
    """In pixels; what our tables have beyond that is kept; copies have no labels of their own."""
    one = face((10, 20, 100, 120), "happy", 0.5, attributes='{"blur": 0.5}')
    whole = face((None,) * 4, "sad", None, score=None, landmarks=None, model=None, origin="import")
    copy = picture("d.jpg", outcome="duplicate", duplicate_of="x")
    committed(tmp_path, tables(picture("x/a.jpg", one), picture("b.jpg", whole), picture("c.jpg"), copy))
    source = source_of(str(tmp_path), "out")
    rows, facts = read(source, tmp_path)
    assert said(rows, "width", "height", "confidence", "file", "row") == [
        ("x/a.jpg", "happy", 10, 20, 100, 120, 640, 480, 0.5, "annotations/0.parquet", 0),
        ("b.jpg", "sad", *[None] * 4, 640, 480, None, "annotations/0.parquet", 1),
        ("c.jpg", None, *[None] * 4, 640, 480, None, "images/0.parquet", 2),
    ]
    kept, bare = (json.loads(told) for told in rows["attributes"].drop_nulls())
    assert {name: kept[name] for name in ("origin", "detection_score", "blur", "model")} == {
        **{"origin": "model", "detection_score": 0.8, "blur": 0.5},
        "model": "ferplus@0123456789ab",
    }
    assert len(kept["landmarks"]) == 10
    assert set(bare) == {"annotation_id", "origin"}
    assert (facts.corners, facts.unit, facts.categories) == ("xywh", "pixels", None)
    assert (source.form, source.name, source.where) == ("parquet", "out", str(tmp_path))
    assert set(source.names) == {"annotations/0.parquet", "images/0.parquet"}


def test_what_a_later_commit_took_back_is_left_out(tmp_path: Path) -> None:
    """Labels and pictures alike; the later one stands."""
    first, second = picture("a.jpg", face(label="happy")), picture("a.jpg", face(label="sad"))
    gone, empty = picture("b.jpg", face()), picture("b.jpg")
    committed(tmp_path, tables(first, gone, picture("c.jpg")), tables(second, empty))
    change(tmp_path, 0, roots=[{"number": 0, "name": "in"}])
    change(tmp_path, 1, roots=[], supersedes=[first["item_key"], gone["item_key"]])
    rows, _ = read(source_of(str(tmp_path), "out"), tmp_path)
    assert rows.select("picture", "label").rows() == [("c.jpg", None), ("a.jpg", "sad"), ("b.jpg", None)]


def test_pictures_of_several_inputs_are_named_as_the_user_did(tmp_path: Path) -> None:
    """Because their names may repeat."""
    committed(tmp_path, tables(picture("a.jpg", face())), tables(picture("a.jpg", face(), root=1)))
    assert read(source_of(str(tmp_path), "out"), tmp_path)[0]["picture"].to_list() == ["in/a.jpg"] * 2


def test_frames_are_told_by_their_video(tmp_path: Path) -> None:
    """With number and time."""
    committed(tmp_path, tables(picture("v.mp4", face(), video_id="v", frame_index=12, pts_ms=480.0)))
    rows, _ = read(source_of(str(tmp_path), "out"), tmp_path)
    assert rows.select("picture", "frame", "pts_ms").rows() == [("v.mp4", 12, 480.0)]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ('{"origin": "x", "a": "\\"model\\": 1"}', {"given_origin": "x", "a": '"model": 1'}),
        ("no object", {"attributes": "no object"}),
        ("[1]", {"attributes": [1]}),
        ("{}", {}),
        (None, {}),
    ],
)
def test_attributes_never_hide_a_column(told: str | None, kept: dict[str, object], tmp_path: Path) -> None:
    """A member of the same name is kept under another."""
    committed(tmp_path, tables(picture("a.jpg", face(landmarks=[], attributes=told))))
    (found,) = read(source_of(str(tmp_path), "out"), tmp_path)[0]["attributes"]
    members = json.loads(found)
    assert members["origin"] == "model"
    ours = {"annotation_id", "origin", "model", "detection_score", "landmarks"}
    assert {name: value for name, value in members.items() if name not in ours} == kept
    assert len(json.loads(found, object_pairs_hook=list)) == len(members)


def test_tables_of_other_versions_are_read(tmp_path: Path) -> None:
    """Landmarks of a fixed length, and columns that are not there."""
    committed(tmp_path, tables(picture("a.jpg", face())))
    path = tmp_path / "annotations" / "0.parquet"
    old = pl.read_parquet(path).drop("attributes", "model")
    old.with_columns(pl.col("landmarks").list.to_array(10)).write_parquet(path)
    rows, _ = read(source_of(str(tmp_path), "out"), tmp_path)
    assert len(json.loads(rows["attributes"][0])["landmarks"]) == 10


def test_a_data_set_is_a_folder_with_manifests(tmp_path: Path) -> None:
    """One without any commit has no rows."""
    assert not is_dataset(str(tmp_path))
    (tmp_path / "_manifests").mkdir()
    assert is_dataset(str(tmp_path))
    assert read(source_of(str(tmp_path), "out"), tmp_path)[0].is_empty()
    assert is_one(b"PAR1....", "x") and not is_one(b"image,label", "x.parquet")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("{oops", "is no manifest of a data set"),
        ("[1, 2]", "is no manifest of a data set"),
        ('{"tables": 5}', "lists no files of annotations"),
        ('{"tables": {"annotations": [{"path": "/etc/passwd"}]}}', "/etc/passwd, which lies outside"),
        ('{"tables": {"annotations": [{"path": "../x.parquet"}]}}', "../x.parquet, which lies outside"),
    ],
)
def test_broken_manifests_are_told(manifest: str, told: str, tmp_path: Path) -> None:
    """And one that points elsewhere is not followed."""
    committed(tmp_path, tables(picture("a.jpg", face())))
    (tmp_path / "_manifests" / "000000.json").write_text(manifest)
    with pytest.raises(UsageError, match=told):
        source_of(str(tmp_path), "out")


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_tables_that_cannot_be_read_are_told(damage: str, tmp_path: Path) -> None:
    """With what to do."""
    committed(tmp_path, tables(picture("a.jpg", face())))
    source = source_of(str(tmp_path), "out")
    path = tmp_path / "annotations" / "0.parquet"
    path.unlink() if damage == "missing" else path.write_bytes(b"PAR1 oops")
    with pytest.raises(UsageError, match=r"annotations/0\.parquet cannot be read .* restore it from a copy"):
        read(source, tmp_path)
