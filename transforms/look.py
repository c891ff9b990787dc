"""Look: what must be known of a picture before its labels can be judged: its size after EXIF, its content, its looks.

Pixels never leave this step.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import polars as pl
from apache_beam.pvalue import PCollection

from schemas.errors import ItemError
from transforms.clock import clocked
from transforms.fingerprint import fingerprint
from transforms.pictures import decode
from transforms.storage import read_bytes, sha256_of
from transforms.video_index import index_of, video_kind

LOOKED: dict[str, pl.DataType] = {
    "file": pl.UInt32(),  # the file's number in its part
    "width": pl.Int32(),  # pixels, after EXIF; null where it cannot be read
    "height": pl.Int32(),
    "sha256": pl.String(),
    "fingerprint": pl.Binary(),  # null for a video, a picture without features, or where nobody asked
    "frames": pl.List(pl.Float64()),  # of a video: the time of each frame in ms; null for a picture
    "error": pl.String(),  # why it cannot be read; null where it can
    "message": pl.String(),
}

_ENOUGH_PX = 256
"""A picture is decoded no larger than its fingerprint needs: the long side in pixels."""


@dataclass(frozen=True)
class Sight:
    """One file to look at: its number in its part, and where it opens."""

    file: int
    uri: str


@dataclass(frozen=True)
class Sights:
    """Files of one part that are looked at together."""

    part: int
    files: tuple[Sight, ...]


@dataclass(frozen=True)
class Limits:
    """What is read at most: bytes of a file, pixels of a picture or frame."""

    max_bytes: int
    max_pixels: int


def look(sight: Sight, limits: Limits, fingerprints: bool) -> dict[str, object]:
    """Return a file's row of LOOKED. What cannot be read has the reason instead."""
    row: dict[str, object] = dict.fromkeys(LOOKED)
    row["file"] = sight.file
    try:
        kind = video_kind(sight.uri, limits.max_pixels)
        seen = _picture(sight.uri, limits, fingerprints) if kind is None else _video(sight.uri, kind, limits)
        return row | seen
    except ItemError as error:
        return row | {"error": error.error, "message": str(error)}


def _picture(uri: str, limits: Limits, fingerprints: bool) -> dict[str, object]:
    data = read_bytes(uri, limits.max_bytes)
    picture = decode(data, max_pixels=limits.max_pixels, reduce_to=_ENOUGH_PX)
    return {
        "width": picture.width,
        "height": picture.height,
        "sha256": _sha256(data),
        "fingerprint": fingerprint(picture.rgb) if fingerprints else None,
    }


def _video(uri: str, kind: str, limits: Limits) -> dict[str, object]:
    index = index_of(uri, kind, limits.max_pixels)
    if index.error and not index.frames:
        raise ItemError(index.error, index.message)
    milliseconds = 1000 * index.time_base[0] / index.time_base[1]
    return {
        "width": index.width or None,
        "height": index.height or None,
        "sha256": sha256_of(uri),
        "frames": [frame.pts * milliseconds for frame in index.frames] if index.listed else None,
    }


def _sha256(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def look_at(sights: Sights, limits: Limits, fingerprints: bool) -> tuple[int, pl.DataFrame]:
    """Return the part and the rows of its files."""
    with clocked("look"):
        rows = [look(sight, limits, fingerprints) for sight in sights.files]
    return sights.part, pl.DataFrame(rows, schema=LOOKED, orient="row")


@dataclass
class Look(beam.PTransform):
    """Look at files; `fingerprints` says whether near duplicates will be looked for."""

    limits: Limits
    fingerprints: bool

    def expand(self, sights: PCollection[Sights]) -> PCollection[tuple[int, Iterable[pl.DataFrame]]]:
        """Return the rows of each part together."""
        look = beam.Map(look_at, self.limits, self.fingerprints)
        return (
            sights | "Look" >> look.with_output_types(tuple[int, pl.DataFrame]) | "Group by part" >> beam.GroupByKey()
        )
