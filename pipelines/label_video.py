"""A video with the faces of a data set drawn in: boxes, landmarks, labels; see `pipelines.export --format video`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.dataset import Dataset
from pipelines.logs import log
from schemas.errors import ItemError, RunError, UsageError
from transforms.buckets.names import is_remote
from transforms.drawing import BOX, HELD, Colour, DrawnFace, draw_faces, face_of
from transforms.film import Shot, write_film
from transforms.storage import printable, replacing, sha256_of
from transforms.video import Frame, read_frames

WINDOW_FRAMES = 5000
"""Labelled frames whose faces are in memory: 20 MB where there are five to a frame, with 68 landmarks."""

_MOST_NAMES = 5

_LONGEST_GAP = 1.5
"""In sampling steps: frames taken once a second are not exactly a second apart, but a missing one leaves two."""

_DRAWN = (
    *("image_id", "rank", "label", "confidence", "landmarks", "landmarks_68"),
    *("bbox_x", "bbox_y", "bbox_w", "bbox_h"),
)


def label_video(dataset: Dataset, source: str, output: str, *, max_pixels: int) -> str:
    """Write the video at `source` to `output` with its labels drawn in; return what was written, for a person.

    Which rows are the video's is told by its content, so a renamed file is found. A frame that was not labelled, as
    with --fps 1, shows the faces of the last one that was, in grey, until the next one is due. Raises UsageError for a
    video that is not in the data set, and RunError.
    """
    try:
        rows = _rows(dataset, source, sha256_of(source))
        _require_other(source, output)
        with replacing(output) as file:
            shots = _shots(_Faces(dataset, rows), source, max_pixels)
            filmed = write_film(file.name, source, shots, max_pixels=max_pixels)
            if not filmed.shots:
                raise RunError(f"{printable(source)}: no frame can be decoded, so there is nothing to write")
    except ItemError as error:
        raise UsageError(f"--input: {error}") from None
    if filmed.silent:
        log.warning("%s: its sound is left out: %s", printable(source), filmed.silent)
    return f"{filmed.shots:,} frames, {rows.height:,} of them in the data set"


def _rows(dataset: Dataset, source: str, sha256: str) -> pl.DataFrame:
    """Return `image_id`, `frame_index`, `pts_ms` of the video's frames, in order."""
    frames = dataset.scan("images").filter(pl.col("video_id").is_not_null())
    mine = frames.filter(pl.col("sha256") == sha256).select("video_id", "image_id", "frame_index", "pts_ms").collect()
    if not mine.height:
        names = (
            frames.select(pl.col("file_name").unique().sort().head(_MOST_NAMES + 1)).collect()["file_name"].to_list()
        )
        known = ", ".join(printable(name) for name in names[:_MOST_NAMES]) + (", ..." if names[_MOST_NAMES:] else "")
        raise UsageError(
            f"--input {printable(source)}: no frame in the data set {dataset.path} is of a file with this content; "
            f"expected one of its videos ({known or 'it has none'}), or label this one first: "
            f"python -m pipelines.annotate --input {printable(source)} --output {dataset.path}"
        )
    # Two files of one content, both kept, are labelled alike.
    return mine.filter(pl.col("video_id") == mine["video_id"][0]).sort("frame_index")


def _require_other(source: str, output: str) -> None:
    if is_remote(output):
        raise UsageError(f"--output {printable(output)}: a video is written to this machine; copy it from there")
    if Path(output).exists() and not is_remote(source) and Path(output).samefile(source):
        raise UsageError(f"--output {printable(output)} is the --input itself: name another file")


def _shots(faces: "_Faces", source: str, max_pixels: int) -> Iterator[Shot]:
    try:
        for frame in read_frames(source, max_pixels=max_pixels):
            rgb = np.require(frame.rgb, requirements=["C", "W"])
            draw_faces(rgb, *faces.at(frame))
            yield Shot(frame.moment.pts, rgb)
    except ItemError as error:
        log.warning("%s: the labelled video has only what can be decoded: %s", printable(source), error)


class _Faces:
    """The faces of one video, looked up in the order of its frames."""

    def __init__(self, dataset: Dataset, rows: pl.DataFrame) -> None:
        self._dataset = dataset
        self._ids = rows["image_id"]
        self._numbers = rows["frame_index"].to_numpy()
        self._until = shown_until(rows["pts_ms"].to_numpy())
        self._row = -1
        self._window: dict[str, list[DrawnFace]] = {}

    def at(self, frame: Frame) -> tuple[list[DrawnFace], Colour]:
        """Return what is drawn into a frame, and in which colour."""
        while self._row + 1 < len(self._ids) and self._numbers[self._row + 1] <= frame.moment.frame:
            self._row += 1
            if self._row % WINDOW_FRAMES == 0:
                self._window = self._faces(self._ids[self._row : self._row + WINDOW_FRAMES])
        if self._row < 0:
            return [], BOX
        seen = bool(self._numbers[self._row] == frame.moment.frame)
        if not seen and frame.moment.pts_ms >= self._until[self._row]:
            return [], HELD
        return self._window.get(self._ids[self._row], []), BOX if seen else HELD

    def _faces(self, ids: pl.Series) -> dict[str, list[DrawnFace]]:
        mine = self._dataset.scan("annotations").filter(pl.col("image_id").is_in(ids.implode()))
        found: dict[str, list[DrawnFace]] = {}
        for row in mine.select(_DRAWN).collect().sort("image_id", "rank").iter_rows(named=True):
            found.setdefault(row["image_id"], []).append(face_of(row))
        return found


def shown_until(pts_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return until when the faces of each labelled frame are shown: to the next one, or for one sampling step.

    The step is the median distance of the labelled frames. Where the next one is farther, frames between are missing,
    and old boxes would stand on new pictures.
    """
    gaps = np.diff(pts_ms)
    step = float(np.median(gaps)) if len(gaps) else 0.0
    shown = np.where(gaps <= _LONGEST_GAP * step, gaps, step)
    return np.asarray(pts_ms + np.append(shown, step), np.float64)
