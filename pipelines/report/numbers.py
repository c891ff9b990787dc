"""What the page is made of: counts, bins and a few rows of a data set, found lazily and in little memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import polars as pl

from pipelines.dataset import Dataset
from schemas.reasons import Outcome
from schemas.tables import CROPS

FACES_SHOWN = 24
"""How many of the least certain and of the least sharp faces are named."""

VIDEOS_SHOWN = 12
VIDEO_BINS = 48
"""Columns of a video's timeline, at most; never more than it has frames."""

ERRORS_SHOWN, EXAMPLES_SHOWN = 20, 2

PIXEL_BUDGET = 1_200_000
"""Bytes of JPEG in one page, so that in base64 and with everything else it stays under 3 MB."""


@dataclass(frozen=True)
class Scale:
    """Bins of a column: the n-th begins at `low + n * width`, on the axis of log2 where `log` is set.

    What lies outside is counted in the first and the last bin.
    """

    low: float
    width: float
    bins: int
    log: bool = False

    def number(self, value: pl.Expr) -> pl.Expr:
        """Return the number of each value's bin; null for null, NaN and infinities."""
        finite = pl.when(value.cast(pl.Float64).is_finite()).then(value.cast(pl.Float64))
        # A sharpness of 0 has no logarithm; it belongs to the first bin.
        axis = pl.max_horizontal(finite, pl.lit(1e-9)).log(2) if self.log else finite
        number = ((axis - self.low) / self.width + 1e-6).floor().clip(0, self.bins - 1).cast(pl.Int32)
        return pl.when(finite.is_not_null()).then(number)

    def edges(self, number: int) -> tuple[float, float]:
        """Return where the bin begins and ends, on the axis."""
        return self.low + number * self.width, self.low + (number + 1) * self.width

    def place(self, value: float) -> float:
        """Return where a value is on the axis."""
        return log2(value) if self.log else value

    def value(self, place: float) -> float:
        """Return the value at a place of the axis."""
        return 2.0**place if self.log else place


SCALES: Mapping[str, Scale] = {
    "confidence": Scale(0, 0.05, 20),
    "brightness": Scale(0, 0.05, 20),
    "contrast": Scale(0, 0.025, 20),  # a standard deviation of values in 0..1 is at most .5
    "sharpness": Scale(0, 1, 16, log=True),  # 1 .. 65,536
    "size": Scale(3, 0.5, 18, log=True),  # 8 .. 4,096 pixels
    "yaw": Scale(-90, 10, 18),
    "pitch": Scale(-90, 10, 18),
    "roll": Scale(-90, 10, 18),
}
"""How each column of the faces is counted; `size` is the longer side of the box, in pixels."""


@dataclass(frozen=True)
class Label:
    """How many faces have a label, and the mean of their confidences, null where none has one."""

    name: str
    faces: int
    confidence: float | None


@dataclass(frozen=True)
class Failed:
    """Two of the items that failed with one error."""

    error: str
    examples: tuple[tuple[str, str], ...]  # file name, message


@dataclass(frozen=True)
class Video:
    """How one video's labels change: for each time bin its frames, and how many of them have a face of each label."""

    file_name: str
    seconds: float
    bins: tuple[float, ...]  # where each begins, in seconds
    frames: tuple[int, ...]
    labels: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Face:
    """One face by name; `crop` is its JPEG, null where no crops were asked for or the page has no room for it."""

    annotation_id: str
    file_name: str
    rank: int
    label: str
    confidence: float | None
    sharpness: float | None
    crop: bytes | None


@dataclass(frozen=True)
class Numbers:
    """Everything that the page says about the tables. `bins` counts by column and number of the bin."""

    faces_per_picture: Mapping[int, int]
    labels: tuple[Label, ...]
    bins: Mapping[str, Mapping[int, int]]
    quarantine: Mapping[str, int]
    changes: Mapping[str, int]
    failed: tuple[Failed, ...]
    videos: tuple[Video, ...]
    videos_left_out: int
    least_certain: tuple[Face, ...]
    least_sharp: tuple[Face, ...]
    has_crops: bool


def measure(dataset: Dataset, errors: Sequence[str]) -> Numbers:
    """Return the numbers of a data set; examples are given for the first of the named `errors`."""
    images, faces = dataset.scan("images"), dataset.scan("annotations")
    looked_at = pl.col("outcome").is_in([str(Outcome.LABELLED), str(Outcome.NO_FACE)])
    labels = _collect(faces.group_by("label").agg(pl.len(), pl.col("confidence").mean())).drop_nulls("label")
    bins = _collect(_binned(faces))
    failed = _collect(_examples(dataset.scan("failures"), errors))
    videos = _collect(_spans(images)).sort("span", "video_id", descending=[True, False])
    longest = videos.head(VIDEOS_SHOWN)
    least_certain, least_sharp = _named(
        dataset, *(_collect(_lowest(faces, name)) for name in ("confidence", "sharpness"))
    )
    return Numbers(
        faces_per_picture=_counts(_collect(images.filter(looked_at).group_by("annotations").len())),
        labels=tuple(Label(*row) for row in labels.sort("len", "label", descending=[True, False]).iter_rows()),
        bins={name: _counts(own) for name in SCALES for own in [bins.filter(pl.col("variable") == name)[:, 1:]]},
        quarantine=_counts(_collect(dataset.scan("quarantine").group_by("rule").len())),
        changes=_counts(_collect(dataset.scan("changes").group_by("rule").len())),
        failed=tuple(
            Failed(error, tuple(own.select("file_name", "message").iter_rows()))
            for (error,), own in failed.partition_by("error", as_dict=True).items()
        ),
        videos=_timelines(images, faces, longest),
        videos_left_out=len(videos) - len(longest),
        least_certain=least_certain,
        least_sharp=least_sharp,
        has_crops=bool(dataset.files(CROPS)),
    )


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """Run a query in pieces. One after the other, because side by side their memory would add up."""
    found = frame.collect(engine="streaming")
    assert isinstance(found, pl.DataFrame)
    return found


def _binned(faces: pl.LazyFrame) -> pl.LazyFrame:
    """Return (variable, value, len): all histograms in one pass over the faces."""
    columns = {name: pl.col(name) for name in SCALES} | {"size": pl.max_horizontal("bbox_w", "bbox_h")}
    numbers = faces.select(**{name: SCALES[name].number(column) for name, column in columns.items()})
    return numbers.unpivot().drop_nulls().group_by("variable", "value").len()


def _spans(images: pl.LazyFrame) -> pl.LazyFrame:
    """Return each video's first and last time and the width of its time bins, in milliseconds."""
    times = images.filter(pl.col("video_id").is_not_null(), pl.col("pts_ms").is_finite())
    spans = times.group_by("video_id").agg(
        pl.col("file_name").min(), start=pl.col("pts_ms").min(), end=pl.col("pts_ms").max(), frames=pl.len()
    )
    # The last frame lasts as long as the others do on average, so that regular frames fill the bins evenly.
    bins = pl.min_horizontal("frames", pl.lit(VIDEO_BINS))
    between = (pl.col("end") - pl.col("start")) / (pl.col("frames") - 1).clip(1)
    span = pl.col("end") - pl.col("start") + pl.when(between > 0).then(between).otherwise(1.0)
    return spans.with_columns(span=span, bins=bins).with_columns(step=pl.col("span") / pl.col("bins"))


def _timelines(images: pl.LazyFrame, faces: pl.LazyFrame, videos: pl.DataFrame) -> tuple[Video, ...]:
    """Return how the labels of the best faces change over the time of some videos."""
    if videos.is_empty():
        return ()
    number = ((pl.col("pts_ms") - pl.col("start")) / pl.col("step") + 1e-6).floor().clip(0, pl.col("bins") - 1)
    frames = _collect(
        images.filter(pl.col("pts_ms").is_finite())
        .join(videos.lazy().select("video_id", "start", "step", "bins"), on="video_id")
        # A frame that repeats another shows its face.
        .select("video_id", image_id=pl.coalesce("duplicate_of", "image_id"), bin=number.cast(pl.Int32))
    )
    best = faces.filter(_among("image_id", frames)).group_by("image_id").agg(pl.col("label").sort_by("rank").first())
    counted = frames.join(_collect(best), on="image_id", how="left").group_by("video_id", "bin", "label").len()
    own = counted.partition_by("video_id", as_dict=True)
    return tuple(_timeline(row, own[(row["video_id"],)]) for row in videos.iter_rows(named=True))


def _timeline(video: dict[str, Any], counted: pl.DataFrame) -> Video:
    frames = [0] * video["bins"]
    labels: dict[str, list[int]] = {}
    for number, label, count in counted.select("bin", "label", "len").iter_rows():
        frames[number] += count
        if label is not None:
            labels.setdefault(label, [0] * video["bins"])[number] += count
    return Video(
        file_name=video["file_name"],
        seconds=video["span"] / 1000,
        bins=tuple((video["start"] + number * video["step"]) / 1000 for number in range(video["bins"])),
        frames=tuple(frames),
        labels={label: tuple(labels[label]) for label in sorted(labels)},
    )


def _among(column: str, few: pl.DataFrame) -> pl.Expr:
    """Tell whether a column has one of the values that it has in `few`. A semi-join would hold the other side whole."""
    return pl.col(column).is_in(few[column].implode())


def _lowest(faces: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """Return the faces with the least of a number; equal ones in the order of their names."""
    named = faces.filter(pl.col(column).is_finite(), pl.col("label").is_not_null())
    return named.select("annotation_id", "image_id", "rank", "label", "confidence", "sharpness").bottom_k(
        FACES_SHOWN, by=[column, "annotation_id"]
    )


def _named(dataset: Dataset, *chosen: pl.DataFrame) -> list[tuple[Face, ...]]:
    """Return the chosen faces with the names of their files and, where there are any, their crops."""
    both = pl.concat(chosen)
    files = dataset.scan("images").filter(_among("image_id", both))
    crops = dataset.scan(CROPS).filter(_among("annotation_id", both))
    file_names = dict(_collect(files.select("image_id", "file_name")).iter_rows())
    jpegs = dict(_collect(crops.select("annotation_id", "crop")).iter_rows())
    left = PIXEL_BUDGET
    found: list[tuple[Face, ...]] = []
    for frame, column in zip(chosen, ("confidence", "sharpness"), strict=True):
        faces = []
        for row in frame.sort(column, "annotation_id").iter_rows(named=True):
            crop = jpegs.get(row["annotation_id"])
            if crop is not None and (len(crop) > left or not crop.startswith(b"\xff\xd8\xff")):
                crop = None
            left -= len(crop or b"")
            name = file_names.get(row.pop("image_id"), "")
            faces.append(Face(**row, file_name=name, crop=crop))
        found.append(tuple(faces))
    return found


def _examples(failures: pl.LazyFrame, errors: Sequence[str]) -> pl.LazyFrame:
    """Return (error, file_name, message) of the first items of each error; reading stops as soon as they are found."""
    columns = failures.select("error", "file_name", "message")
    each = [columns.filter(pl.col("error") == error).head(EXAMPLES_SHOWN) for error in errors[:ERRORS_SHOWN]]
    return pl.concat(each) if each else columns.head(0)


def _counts(frame: pl.DataFrame) -> dict[Any, int]:
    """Return a frame of (what, len) as a mapping in the order of what is counted."""
    return dict(sorted((what, count) for what, count in frame.iter_rows() if what is not None))
