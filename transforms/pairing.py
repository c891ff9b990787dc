"""Tell which picture of a data set the truth means, and which face.

Names are compared as paths from their end, part by part: either may be the longer one. A name that means several
pictures is an error, never a guess. Boxes are paired one to one, such that the overlaps (IoU) sum to the most.
"""

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

from schemas.errors import UsageError
from transforms.truth import comparable, frame_name

_SLICE_ROWS = 20_000
"""Faces that are held against the boxes of their pictures at once."""

_ONLY_FRAME_MS = 40.0
"""The length that a frame is taken to have where its video shows no other: 25 a second."""


def pair_pictures(pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return `picture`, `item` for each picture of the truth that is an item of the data set, each item once.

    `pictures` as in `Truth`. `items`: `item`, `file_name`, `source_uri`, and of frames `frame_index` and `pts_ms`, else
    null. A frame that is told by its time is the nearest one within half a frame. Raises UsageError for names that
    mean several.
    """
    is_timed = pl.col("pts_ms").is_not_null()
    named = _pair_names(pictures.filter(~is_timed).select("picture", "name"), _named(items))
    timed = _pair_times(pictures.filter(is_timed), items.filter(pl.col("frame_index").is_not_null()))
    return pl.concat([named, timed]).unique("item", keep="first", maintain_order=True).sort("picture")


def pair_names(pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return `picture`, `item` for names alone: of `items` the `item`, its `file_name` and `source_uri`."""
    return _pair_names(pictures, items.select("item", comparable("file_name"), comparable("source_uri")))


def _named(items: pl.DataFrame) -> pl.DataFrame:
    """Return each item's names as they are compared; a frame's has its number behind its video's."""
    plain = items.select("item", "frame_index", comparable("file_name"), comparable("source_uri"))
    is_frame = pl.col("frame_index").is_not_null()
    names = ("file_name", "source_uri")
    return plain.select(
        "item", *(pl.when(is_frame).then(frame_name(name)).otherwise(name).alias(name) for name in names)
    )


def _pair_names(pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Pair equal names first, then by the longer name of an item, then by the one below its root."""
    # One that is met exactly is meant, even if it is also the end of another.
    found = [_checked(_by_name(pictures, _names(items, "file_name")), pictures, items)]
    for name in ("source_uri", "file_name"):
        paired = pl.concat(found)
        left = pictures.join(paired, on="picture", how="anti")
        free = items.join(paired, on="item", how="anti")
        found.append(_checked(_by_ending(left, _names(free, name)), pictures, items))
    return pl.concat(found)


def _names(items: pl.DataFrame, name: str) -> pl.DataFrame:
    return items.select("item", pl.col(name).alias("name")).filter(pl.col("name").is_not_null())


def _by_name(pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return for each picture that has items of its name: `picture`, how `many`, the `item`, `another` of them."""
    return pictures.join(_counted(items), on="name").select("picture", "many", "item", "another")


def _by_ending(pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return the same for items of which one name is the end of the other. Pairs are never listed, only counted."""
    pictures, items = (names.with_columns(parts=_parts("name")) for names in (pictures, items))
    empty = pl.DataFrame(schema={"picture": pl.UInt32, "many": pl.UInt32, "item": pl.UInt32, "another": pl.UInt32})
    found = [empty]
    for count in items["parts"].unique().sort():
        longer = pictures.filter(pl.col("parts") >= count).with_columns(name=_ending(count))
        found.append(_by_name(longer, items.filter(pl.col("parts") == count)))
    for count in pictures["parts"].unique().sort():
        longer = items.filter(pl.col("parts") > count).with_columns(name=_ending(count))
        found.append(_by_name(pictures.filter(pl.col("parts") == count), longer))
    firsts = (pl.col("many").sum(), pl.col("item").min(), pl.col("another").max())
    return pl.concat(found).group_by("picture").agg(firsts)


def _parts(name: str) -> pl.Expr:
    return pl.col(name).str.count_matches("/", literal=True) + 1


def _ending(count: int) -> pl.Expr:
    return pl.col("name").str.split("/").list.tail(count).list.join("/")


def _counted(items: pl.DataFrame) -> pl.DataFrame:
    item = pl.col("item")
    return items.group_by("name").agg(pl.len().alias("many"), item.min(), item.max().alias("another"))


def _checked(found: pl.DataFrame, pictures: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Return `picture`, `item`. Raises UsageError where a picture means several items, or several mean one item."""
    several = found.filter(pl.col("many") > 1).sort("picture")
    if several.height:
        [(picture, _, item, another)] = several.head(1).rows()
        means = " and ".join(_uri(items, number) for number in (item, another))
        raise UsageError(
            f"--truth: {several.height:,} of its names mean several pictures, such as {_name(pictures, picture)!r}: "
            f"{means}. Name them with their folders"
        )
    double = found.filter(pl.col("item").is_duplicated()).sort("item", "picture")
    if double.height:
        one, two = (_name(pictures, picture) for picture in double["picture"].head(2))
        raise UsageError(
            f"--truth: {double.height:,} of its names mean a picture that another means too, such as {one!r} and "
            f"{two!r}: {_uri(items, double['item'][0])}. Name them with their folders, as the data set does"
        )
    return found.select("picture", "item")


def _name(pictures: pl.DataFrame, picture: int) -> str:
    return str(pictures.filter(pl.col("picture") == picture)["name"][0])


def _uri(items: pl.DataFrame, item: int) -> str:
    return str(items.filter(pl.col("item") == item).select(pl.coalesce("source_uri", "file_name")).item())


def _pair_times(pictures: pl.DataFrame, frames: pl.DataFrame) -> pl.DataFrame:
    """Pair the frames that are told by their times; of several times for one frame the nearest counts."""
    schema = {"picture": pl.UInt32, "item": pl.UInt32}
    if pictures.is_empty() or frames.is_empty():
        return pl.DataFrame(schema=schema)
    places = ["file_name", "source_uri"]
    videos = frames.select(places).unique().sort(places).with_row_index("item")
    told = pictures.select("name").unique().sort("name").with_row_index("picture")
    pairs = pair_names(told, videos).join(told, on="picture").select("name", video="item")
    wanted = pictures.join(pairs, on="name").sort("pts_ms")
    numbered = frames.join(videos.rename({"item": "video"}), on=places).sort("pts_ms")
    nearest = wanted.join_asof(
        numbered.select("item", "video", "pts_ms", at="pts_ms"),
        on="pts_ms",
        by="video",
        strategy="nearest",
        check_sortedness=False,
    ).join(numbered.group_by("video").agg(half=_half_frame()), on="video")
    apart = (pl.col("pts_ms") - pl.col("at")).abs()
    close = nearest.filter(apart <= pl.col("half") + 1e-6).sort(apart, "picture")
    return close.unique("item", keep="first", maintain_order=True).select(
        pl.col(name).cast(kind) for name, kind in schema.items()
    )


def _half_frame() -> pl.Expr:
    """Return half the usual length of a video's frames in ms: the numbers tell how many lie between two of them."""
    length = pl.col("pts_ms").diff() / pl.col("frame_index").diff()
    return length.filter(length > 0).median().fill_null(_ONLY_FRAME_MS) / 2


def pair_faces(faces: pl.DataFrame, boxes: pl.DataFrame, least_iou: float) -> pl.DataFrame:
    """Return `face`, `prediction` for each face of the truth that is found.

    `faces`: `face`, `picture`, `item`, and `x`, `y`, `w`, `h`, which are null where the truth names no place: then the
    picture's largest box is meant. `boxes`: `prediction`, `item`, `x`, `y`, `w`, `h`, the first of equals first.
    """
    is_placed = pl.col("x").is_not_null()
    largest = boxes.sort(pl.col("w") * pl.col("h"), descending=True, maintain_order=True).unique("item", keep="first")
    whole = faces.filter(~is_placed).join(largest.select("item", "prediction"), on="item").select("face", "prediction")
    return pl.concat([whole, _pair_boxes(faces.filter(is_placed), boxes, least_iou)])


def _pair_boxes(faces: pl.DataFrame, boxes: pl.DataFrame, least_iou: float) -> pl.DataFrame:
    near = [_overlaps(part, boxes).filter(_is_near(least_iou)) for part in faces.iter_slices(_SLICE_ROWS)]
    pairs = pl.concat([_overlaps(faces.clear(), boxes), *near])
    is_alone = ~pl.col("face").is_duplicated() & ~pl.struct("picture", "prediction").is_duplicated()
    rest = pairs.filter(~is_alone).partition_by("picture", maintain_order=True)
    chosen = [pairs.filter(is_alone), *map(_assigned, rest)]
    return pl.concat(chosen).select("face", "prediction")


def _is_near(least_iou: float) -> pl.Expr:
    return (pl.col("iou") >= least_iou) & (pl.col("iou") > 0)


def _overlaps(faces: pl.DataFrame, boxes: pl.DataFrame) -> pl.DataFrame:
    """Return `picture`, `face`, `prediction`, `iou` for each face with each box of its picture."""
    both = faces.join(boxes, on="item", suffix="_box")
    spans = []
    for at, side in (("x", "w"), ("y", "h")):
        end = pl.min_horizontal(pl.col(at) + pl.col(side), pl.col(f"{at}_box") + pl.col(f"{side}_box"))
        spans.append((end - pl.max_horizontal(at, f"{at}_box")).clip(0))
    common = spans[0] * spans[1]
    area = pl.col("w") * pl.col("h") + pl.col("w_box") * pl.col("h_box") - common
    return both.select("picture", "face", "prediction", iou=common / area)


def _assigned(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of one picture that sum to the most overlap, each face and each box at most once."""
    face, box = (pairs[name].rank("dense").to_numpy() - 1 for name in ("face", "prediction"))
    overlap = np.zeros((face.max() + 1, box.max() + 1))
    overlap[face, box] = pairs["iou"].to_numpy()
    faces, boxes = linear_sum_assignment(overlap, maximize=True)
    chosen = np.zeros(overlap.shape, bool)
    chosen[faces, boxes] = True
    return pairs.filter(chosen[face, box])
