"""Source pictures beside an export: hard links or copies of files, and frames of videos as JPEG."""

# A million pictures are linked here, and a million pathlib objects are slow.
# ruff: noqa: PTH108

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.errors import ItemError
from transforms.folders import Folder
from transforms.storage import printable, read_bytes, sha256_of
from transforms.video import read_frames

JPEG_QUALITY = 95

MOST_REASONS = 3

_COLUMNS = ("image_id", "video_id", "frame_index", "source_uri", "sha256", "path")


@dataclass
class Copies:
    """The source pictures of one export; files over `max_bytes` and frames over `max_pixels` are not read.

    `placed` and `missing` count pictures; `reasons` tells the first few that are missing.
    """

    folder: Folder
    max_bytes: int
    max_pixels: int
    placed: int = 0
    missing: int = 0
    reasons: list[str] = field(default_factory=list)

    def put(self, pictures: pl.DataFrame) -> set[str]:
        """Put pictures at their `path` in the folder; return the ids of those that are gone or are others by now.

        A hard link takes no space, and shares its content with the source: who edits one edits both. Where there can be
        none, the file is copied. Content is held to the row's `sha256`, because its labels are those of that content.
        """
        pictures = pictures.select(_COLUMNS).with_columns(pl.col("source_uri", "sha256").fill_null(""))
        missing = self._stills(pictures.filter(pl.col("video_id").is_null()))
        for _, frames in pictures.filter(pl.col("video_id").is_not_null()).group_by("video_id", maintain_order=True):
            missing |= _place_frames(frames, self.folder, self.max_pixels)
        self.placed += pictures.height - len(missing)
        self.missing += len(missing)
        self.reasons += list(dict.fromkeys(missing.values()))[: MOST_REASONS - len(self.reasons)]
        return set(missing)

    def _stills(self, pictures: pl.DataFrame) -> dict[str, str]:
        missing = {}
        for row in pictures.iter_rows(named=True):
            try:
                _place(row, self.folder, self.max_bytes)
            except ItemError as error:
                missing[row["image_id"]] = str(error)
        return missing


def _place(row: dict[str, Any], folder: Folder, max_bytes: int) -> None:
    source, path = row["source_uri"], folder.place(row["path"])
    try:
        os.link(os.path.realpath(source), path)
    except OSError:  # another disk, another owner, no links there, or no file: reading tells which
        folder.write(row["path"], read_bytes(source, max_bytes))
    try:
        # What has come is held to it, not the source, which may change meanwhile.
        _require_content(path, source, row["sha256"])
    except ItemError:
        os.unlink(path)
        raise


def _place_frames(rows: pl.DataFrame, folder: Folder, max_pixels: int) -> dict[str, str]:
    """Decode one video as far as the frames of `rows` are in it; return why others are missing, by `image_id`."""
    uri, sha256 = rows.row(0, named=True)["source_uri"], rows.row(0, named=True)["sha256"]
    wanted = rows.sort("frame_index").select("frame_index", "image_id", "path").iter_rows()
    missing: dict[str, str] = {}
    reason = f"{printable(uri)} has no such frame"
    due = next(wanted, None)
    try:
        _require_content(uri, uri, sha256)
        with contextlib.closing(read_frames(uri, max_pixels=max_pixels)) as frames:
            for frame in frames:
                while due and due[0] < frame.moment.frame:
                    missing[due[1]] = reason
                    due = next(wanted, None)
                if not due:
                    break
                if due[0] == frame.moment.frame:
                    folder.write(due[2], _jpeg(frame.rgb))
                    due = next(wanted, None)
    except ItemError as error:
        reason = str(error)
    return missing | {row[1]: reason for row in (due, *wanted) if row}


def _require_content(path: str, source: str, sha256: str) -> None:
    if sha256_of(path) != sha256:
        raise ItemError("changed", f"{printable(source)} has changed since it was labelled.")


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data)
