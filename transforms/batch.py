"""The records that travel between steps: pixels only within one stage, small rows everywhere.

`PlannedBatch` crosses the shuffle (references), `DecodedBatch`, `DetectedBatch` and `AlignedBatch` never leave their
stage (their coder refuses), `Tables` of small rows go on to clean, validate and write as Arrow IPC.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import Coder
from numpy.typing import NDArray

from schemas.records import Clip, Faces, ImageRef, Moment, PlannedItem, Repair, Sent, Standing
from schemas.tables import CROPS, TABLES, Tables


@dataclass(frozen=True)
class PlannedBatch:
    """Pictures that are read, decoded and labelled together, or one clip; `shard` is where their rows will stand."""

    shard: int
    items: tuple[PlannedItem, ...]


@dataclass(frozen=True)
class Decoded:
    """One decoded picture, or one frame of a video; `moment` is null for a picture.

    `rgb` (h, w, 3) uint8, EXIF orientation applied; `scale` is its pixels per pixel of the full picture (1, 1/2, 1/4,
    1/8). `width` and `height` are the full picture's, in pixels. `fingerprint` is null for a frame, for a picture that
    shows next to nothing, and where nobody asked.
    """

    item: PlannedItem
    moment: Moment | None
    sha256: str
    width: int
    height: int
    rgb: NDArray[np.uint8]
    scale: float
    fingerprint: bytes | None = None


@dataclass(frozen=True)
class Detected:
    """A decoded picture with its faces, in pixels of the full picture; `small` counts those under the minimum size."""

    picture: Decoded
    faces: Faces
    small: int


@dataclass(frozen=True)
class Aligned:
    """A picture with its faces and their crops (n, S, S) or (n, S, S, 3) uint8; the picture's pixels are let go.

    `seen` are the same faces in the pixels of the decoded picture, of which one is 1 / `scale` of the full picture's;
    `landmark_crops` (n, S, S, 3) are of them. `keepsakes` are the crops as JPEG files for the `crops` table. Both are
    empty unless they were asked for.
    """

    item: PlannedItem
    moment: Moment | None
    sha256: str
    width: int
    height: int
    faces: Faces
    small: int
    crops: NDArray[np.uint8]
    seen: Faces
    scale: float
    landmark_crops: NDArray[np.uint8]
    keepsakes: tuple[bytes, ...]
    fingerprint: bytes | None


@dataclass(frozen=True)
class DecodedBatch:
    """Decoded pictures, and the copies of committed pictures, which need no pixels."""

    shard: int
    pictures: tuple[Decoded, ...]
    known_copies: tuple[PlannedItem, ...]


@dataclass(frozen=True)
class DetectedBatch:
    """Pictures with their faces."""

    shard: int
    pictures: tuple[Detected, ...]
    known_copies: tuple[PlannedItem, ...]


@dataclass(frozen=True)
class AlignedBatch:
    """Pictures with their crops."""

    shard: int
    pictures: tuple[Aligned, ...]
    known_copies: tuple[PlannedItem, ...]


class NeverEncoded(Coder):
    """Refuse to encode: a batch of pixels that would leave its stage is a loud error.

    Beam samples element sizes; the default would pickle the whole batch to measure it.
    """

    def encode(self, value: object) -> NoReturn:
        raise RuntimeError(f"{type(value).__name__} would cross a stage boundary: pixels must stay within one stage")

    def decode(self, encoded: bytes) -> NoReturn:
        raise RuntimeError("pixels must stay within one stage")

    def estimate_size(self, value: Any) -> int:
        return sum(_pixels(picture).nbytes for picture in value.pictures)

    def is_deterministic(self) -> bool:
        return True


def _pixels(picture: Decoded | Detected | Aligned) -> NDArray[np.uint8]:
    match picture:
        case Detected():
            return picture.picture.rgb
        case Decoded():
            return picture.rgb
        case Aligned():
            return picture.crops


class PlannedBatchCoder(Coder):
    """References as JSON: the same bytes on every runner and in every version of Python."""

    def encode(self, value: PlannedBatch) -> bytes:
        return json.dumps(asdict(value), separators=(",", ":")).encode("ascii")

    def decode(self, encoded: bytes) -> PlannedBatch:
        told = json.loads(encoded)
        return PlannedBatch(told["shard"], tuple(planned_item(item) for item in told["items"]))

    def is_deterministic(self) -> bool:
        return True


def planned_item(told: dict[str, Any]) -> PlannedItem:
    """Return the planned item that `dataclasses.asdict` took apart."""
    return PlannedItem(
        ref=_ref(told["ref"]),
        sha256=told["sha256"],
        copies=tuple(_ref(copy) for copy in told["copies"]),
        stands=Standing(**told["stands"]) if told["stands"] else None,
        clip=_clip(told["clip"]) if told["clip"] else None,
    )


def _ref(told: dict[str, Any]) -> ImageRef:
    sent = told.get("sent")
    return ImageRef(**told | {"sent": _sent(**sent) if sent else None})


def _sent(span: list[int] | None, repairs: list[dict[str, Any]], **told: Any) -> Sent:
    return Sent(span=(span[0], span[1]) if span else None, repairs=tuple(Repair(**each) for each in repairs), **told)


def _clip(told: dict[str, Any]) -> Clip:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return Clip(**values)


class TablesCoder(Coder):
    """Small rows as Arrow IPC, one stream a table."""

    def encode(self, value: Tables) -> bytes:
        sink = pa.BufferOutputStream()
        for _, table in value.named():
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> Tables:
        source = pa.BufferReader(encoded)
        return Tables(**{name: pa.ipc.open_stream(source).read_all() for name in (*TABLES, CROPS)})

    def is_deterministic(self) -> bool:
        return True


for _record in (DecodedBatch, DetectedBatch, AlignedBatch):
    beam.coders.registry.register_coder(_record, NeverEncoded)
beam.coders.registry.register_coder(PlannedBatch, PlannedBatchCoder)
beam.coders.registry.register_coder(Tables, TablesCoder)
