"""Who is who in a part: each picture once, whatever files speak of it and however they write its name."""

from typing import Any

import polars as pl

from transforms.roster import FILES, PICTURES, STAGED, identities, roster


def raw(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return raw rows; what is not named is a label `cat` in the first source."""
    usual = {"file": "a.csv", "row": 1, "picture": "a.jpg", "is_label": True, "label": "cat", "source": 0}
    return pl.DataFrame([usual | row for row in rows], schema=STAGED)


def files(*names: str) -> pl.DataFrame:
    """Return pictures that are at hand."""
    rows = [{"root": 0, "file_name": name, "uri": f"/p/{name}", "size_bytes": 9, "mtime_ns": 1} for name in names]
    return pl.DataFrame(rows, schema=FILES)


def test_two_files_speak_of_one_picture() -> None:
    """VOC says `b.jpg`, YOLO says `b`: one picture, with what each source says of it noted."""
    pictures, labels = roster(
        raw({"picture": "b.jpg"}, {"picture": "b", "source": 1}, {"picture": "c.jpg", "source": 1}),
        files(),
        ["voc", "yolo"],
        expected=False,
        whole=False,
    )
    assert pictures["name"].to_list() == ["b.jpg", "c.jpg"]
    assert labels["picture"].to_list() == [0, 0, 1]
    assert [[each.split(":")[0] for each in said] for said in pictures["inputs"]] == [["voc", "yolo"], ["yolo"]]


def test_a_picture_without_a_label_is_a_picture() -> None:
    """An entry has no label row, and its declared size is kept."""
    pictures, labels = roster(
        raw({"is_label": False, "label": None, "width": 64, "height": 48}), files(), ["a"], expected=False, whole=False
    )
    assert pictures.select("name", "declared_width", "declared_height").rows() == [("a.jpg", 64, 48)]
    assert labels.height == 0


def test_files_of_which_nothing_is_said_come_last() -> None:
    """They are pictures without an entry, where the folder of pictures was named."""
    rows = raw({"picture": "old/a.jpg"}, {"picture": "gone.jpg"})
    pictures, _ = roster(rows, files("x/a.jpg", "x/z.jpg"), ["a"], expected=True, whole=True)
    assert pictures.select("name", "at", "told").rows() == [
        ("x/a.jpg", 0, True),
        ("gone.jpg", None, True),
        ("x/z.jpg", 1, False),
    ]
    assert pictures["why"].to_list() == [None, "no picture of this name is there", None]


def test_frames_of_a_video_are_pictures_of_their_own() -> None:
    """Each frame once, under the video's name."""
    rows = raw({"picture": "v.mp4", "frame": 3}, {"picture": "v.mp4", "frame": 3}, {"picture": "v.mp4", "frame": 4})
    pictures, labels = roster(rows, files(), ["cvat"], expected=False, whole=False)
    assert pictures.select("name", "frame").rows() == [("v.mp4", 3), ("v.mp4", 4)]
    assert labels["picture"].to_list() == [0, 0, 1]


def test_what_is_said_is_recognised_wherever_it_stands() -> None:
    """The digest does not change with the line or the order, and does with every word of it."""

    def said(*rows: dict[str, Any]) -> list[str]:
        return roster(raw(*rows), files(), ["a"], expected=False, whole=False)[0]["inputs"].to_list()[0]

    cat, dog = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, {"label": "dog"}
    assert said(cat, dog) == said(dog | {"row": 7}, cat | {"row": 9, "file": "b.csv"})
    others = [cat | {"a": 1.5}, cat | {"label": "Cat"}, cat | {"confidence": 0.5}, cat | {"attributes": "{}"}, dog]
    assert len({tuple(said(row)) for row in [cat, *others]}) == 6
    assert said(cat, cat) != said(cat)


def test_identities_differ_by_content_and_name() -> None:
    """A picture that is not at hand has one too; two frames differ."""
    pictures, _ = roster(raw({}, {"picture": "b.jpg"}, {"frame": 1}), files(), ["a"], expected=False, whole=False)
    known = identities(
        pictures.with_columns(
            root=pl.lit(0), sha256=pl.lit(None, pl.String), size_bytes=pl.lit(None), mtime_ns=pl.lit(None)
        )
    )
    assert known["image_id"].n_unique() == known["item_key"].n_unique() == 3
    assert known["video_id"].is_null().to_list() == [True, True, False]
    assert set(PICTURES) <= set(known.columns)
