"""Names mean the picture that they end like, boxes the face that they lie on; what is ambiguous is never guessed."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.pairing import pair_faces, pair_names, pair_pictures

Box = Sequence[float]


def pictures(*rows: str | tuple[str, float]) -> pl.DataFrame:
    """Return pictures of the truth: names, or names of videos with a time."""
    told = [(row, None) if isinstance(row, str) else row for row in rows]
    schema = {"name": pl.String, "pts_ms": pl.Float64}
    return pl.DataFrame(told, schema=schema, orient="row").with_row_index("picture")


def items(*rows: str | tuple[str, str] | tuple[str, str, int, float]) -> pl.DataFrame:
    """Return a data set's pictures: file names, or with their uri, or frames with their number and time too."""
    told = [(row, f"in/{row}", None, None) if isinstance(row, str) else (*row, None, None)[:4] for row in rows]
    schema = {"file_name": pl.String, "source_uri": pl.String, "frame_index": pl.Int32, "pts_ms": pl.Float64}
    return pl.DataFrame(told, schema=schema, orient="row").with_row_index("item")


def paired(theirs: pl.DataFrame, ours: pl.DataFrame) -> dict[Any, Any]:
    """Return what names of the truth mean, by the uri and the number of a frame."""
    pairs = pair_pictures(theirs, ours).join(theirs, on="picture").join(ours, on="item", suffix="_item")
    columns = ("name", "pts_ms", "source_uri", "frame_index")
    return {
        name if at is None else (name, at): uri if frame is None else (uri, frame)
        for name, at, uri, frame in pairs.select(columns).rows()
    }


def matches(one: str, other: str) -> bool:
    """Say whether one path is the end of the other."""
    parts = [name.split("/") for name in (one, other)]
    count = min(map(len, parts))
    return parts[0][-count:] == parts[1][-count:]


# Names


def test_either_name_may_be_the_longer_one() -> None:
    """By whole parts: `aa.jpg` does not end like `a.jpg`."""
    found = paired(pictures("a.jpg", "raw/y/b.jpg", "y/in/c.jpg"), items("x/a.jpg", "b.jpg", "c.jpg", "x/aa.jpg"))
    assert found == {"a.jpg": "in/x/a.jpg", "raw/y/b.jpg": "in/b.jpg", "y/in/c.jpg": "in/c.jpg"}


def test_a_name_that_is_met_exactly_is_meant() -> None:
    """Though another ends like it."""
    assert paired(pictures("a.jpg"), items("x/a.jpg", "a.jpg")) == {"a.jpg": "in/a.jpg"}
    assert paired(pictures("a.jpg", "x/a.jpg"), items("a.jpg")) == {"a.jpg": "in/a.jpg"}


def test_the_name_of_the_input_tells_roots_apart() -> None:
    """Where files of two folders are called alike."""
    ours = items(("1.jpg", "photos/monday/1.jpg"), ("1.jpg", "photos/tuesday/1.jpg"))
    theirs = pictures("/data/photos/monday/1.jpg".strip("/"), "tuesday/1.jpg")
    assert list(paired(theirs, ours).values()) == ["photos/monday/1.jpg", "photos/tuesday/1.jpg"]


def test_names_are_compared_in_one_spelling() -> None:
    """A data set made on a Macintosh or on Windows."""
    assert paired(pictures("x/\u00fc.jpg"), items(("x\\u\u0308.jpg", ".\\x\\u\u0308.jpg"))) != {}


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        (
            ["a.jpg"],
            ["x/a.jpg", "y/a.jpg"],
            "1 of its names mean several pictures, such as 'a.jpg': in/x/a.jpg and in/y",
        ),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], "such as 'x/a.jpg' and 'y/a.jpg': in/a.jpg"),
        (["a.jpg"], [("a.jpg", "p/a.jpg"), ("a.jpg", "q/a.jpg")], "such as 'a.jpg': p/a.jpg and q/a.jpg"),
    ],
)
def test_a_name_that_means_several_pictures_is_an_error(theirs: list[str], ours: list[Any], told: str) -> None:
    """Which names them."""
    with pytest.raises(UsageError) as caught:
        pair_pictures(pictures(*theirs), items(*ours))
    assert told in str(caught.value)


_paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@settings(deadline=None)
@given(st.lists(_paths, unique=True, max_size=6), st.lists(_paths, unique=True, max_size=6))
def test_pairs_are_those_that_match_and_nothing_else_does(theirs: list[str], ours: list[str]) -> None:
    """A name that means one picture which no other name means is paired; one that means none is not."""
    try:
        pairs = pair_names(
            pictures(*theirs).select("picture", "name"),
            items(*((name, name) for name in ours)).select("item", "file_name", "source_uri"),
        )
    except UsageError:
        means = [sum(matches(one, other) for other in ours) for one in theirs]
        meant = [sum(matches(one, other) for one in theirs) for other in ours]
        assert max([*means, *meant]) > 1
        return
    found = {theirs[picture]: ours[item] for picture, item in pairs.select("picture", "item").rows()}
    assert pairs["item"].is_unique().all()
    assert all(matches(one, other) for one, other in found.items())
    for one in theirs:
        means = [other for other in ours if matches(one, other)]
        if len(means) == 1 and sum(matches(each, means[0]) for each in theirs) == 1:
            assert found[one] == means[0]


# Frames


def test_frames_are_paired_by_number() -> None:
    """Under the name of their video, however long it is, or as exports call them."""
    ours = items(*(("v/clip.mp4", "in/v/clip.mp4", frame, frame * 40.0) for frame in range(3)))
    theirs = pictures("clip.mp4/000001.jpg", "data/in/v/clip.mp4/000002.jpg", "clip.mp4/000007.jpg")
    assert list(paired(theirs, ours).values()) == [("in/v/clip.mp4", 1), ("in/v/clip.mp4", 2)]


def test_frames_are_paired_by_time_within_half_a_frame() -> None:
    """Of a video of which every tenth frame was taken: half of one of its 40 ms, not of the 400 between those taken."""
    ours = items(
        *(("v/clip.mp4", "in/v/clip.mp4", frame, frame * 40.0) for frame in range(0, 50, 10)),
        ("other.mp4", "in/other.mp4", 0, 100.0),
    )
    theirs = pictures(
        ("clip.mp4", 0.0), ("clip.mp4", 419.0), ("clip.mp4", 779.0), ("other.mp4", 100.0), ("no.mp4", 0.0)
    )
    found = paired(theirs, ours)
    assert found == {
        ("clip.mp4", 0.0): ("in/v/clip.mp4", 0),
        ("clip.mp4", 419.0): ("in/v/clip.mp4", 10),
        ("other.mp4", 100.0): ("in/other.mp4", 0),
    }


def test_of_two_times_for_one_frame_the_nearer_counts() -> None:
    """A truth that was made at twice the rate."""
    ours = items(*(("c.mp4", "c.mp4", frame, frame * 40.0) for frame in range(2)))
    assert paired(pictures(("c.mp4", 22.0), ("c.mp4", 45.0)), ours) == {("c.mp4", 45.0): ("c.mp4", 1)}


# Faces


def faces(*rows: tuple[int, Box | None]) -> pl.DataFrame:
    """Return faces of the truth: each on a picture and the item of the same number, with its box."""
    told = [(picture, picture, *(box or (None,) * 4)) for picture, box in rows]
    return _boxes(told, ("picture", "item")).with_row_index("face")


def boxes(*rows: tuple[int, Box]) -> pl.DataFrame:
    """Return our boxes: each on an item."""
    return _boxes([(item, *box) for item, box in rows], ("item",)).with_row_index("prediction")


def _boxes(rows: list[tuple[Any, ...]], keys: tuple[str, ...]) -> pl.DataFrame:
    schema = dict.fromkeys(keys, pl.UInt32) | dict.fromkeys("xywh", pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union."""
    spans = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    common = max(spans[0], 0) * max(spans[1], 0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def test_a_face_without_a_place_is_the_largest_of_its_picture() -> None:
    """The first of equals; none where nothing was found."""
    ours = boxes((0, (0, 0, 9, 9)), (0, (5, 5, 9, 10)), (0, (50, 0, 10, 9)), (1, (0, 0, 1, 1)))
    assert pair_faces(faces((0, None), (2, None)), ours, 0.5).rows() == [(0, 1)]


def test_boxes_are_paired_one_to_one() -> None:
    """The second face takes the box that is left, though the first lies on both."""
    theirs = faces((0, (0, 0, 10, 10)), (0, (2, 0, 10, 10)))
    ours = boxes((0, (1, 0, 10, 10)), (0, (-1, 0, 10, 10)))
    assert sorted(pair_faces(theirs, ours, 0.5).rows()) == [(0, 1), (1, 0)]


def test_the_least_overlap_counts_in_and_none_never_does() -> None:
    """Half of the union, exactly; with a limit of 0 a box beside the face is still none."""
    theirs = faces((0, (0, 0, 10, 10)))
    assert pair_faces(theirs, boxes((0, (0, 0, 10, 5))), 0.5).height == 1
    assert pair_faces(theirs, boxes((0, (0, 0, 10, 4.99))), 0.5).height == 0
    assert pair_faces(theirs, boxes((0, (10, 0, 10, 10))), 0.0).height == 0


def test_copies_of_a_picture_are_paired_each_on_its_own() -> None:
    """Two pictures of the truth may mean one item: its boxes serve both."""
    theirs = faces((0, (0, 0, 10, 10)), (1, (0, 0, 10, 10))).with_columns(item=pl.lit(0, pl.UInt32))
    assert sorted(pair_faces(theirs, boxes((0, (0, 0, 10, 10))), 0.5).rows()) == [(0, 0), (1, 0)]


_side = st.integers(1, 12)
_some_boxes = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), _side, _side), max_size=4)


@settings(max_examples=60, deadline=None)
@given(_some_boxes, _some_boxes)
def test_overlaps_sum_to_the_most(theirs: list[Box], ours: list[Box]) -> None:
    """Of all ways to pair them, those under the limit left out."""
    pairs = pair_faces(faces(*((0, box) for box in theirs)), boxes(*((0, box) for box in ours)), 0.2).rows()
    assert len({face for face, _ in pairs}) == len({box for _, box in pairs}) == len(pairs)
    gains = np.array([[overlap(one, other) for other in ours] for one in theirs]).reshape(len(theirs), len(ours))
    gains[gains < 0.2] = 0
    assert all(gains[face, box] > 0 for face, box in pairs)
    small, large = sorted(gains.shape)
    wide = gains if gains.shape[0] == small else gains.T
    best = max(
        sum(wide[row, column] for row, column in enumerate(order)) for order in permutations(range(large), small)
    )
    assert sum(gains[face, box] for face, box in pairs) == pytest.approx(best)
