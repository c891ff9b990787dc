"""Near copies in a shard: a picture that shows the same as a better one, or a committed one, is a duplicate of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import RunError
from schemas.reasons import Outcome, Rule
from schemas.tables import Tables
from transforms.edits import Row, appended, is_one_of, with_values, without
from transforms.fingerprint import FINGERPRINT_BYTES
from transforms.near import Index, groups
from transforms.rules import held_rows, settle
from transforms.storage import printable, write_atomic

_RULE_VERSION = 1

_ID_BYTES = 32
_IDS = ".ids"


@dataclass(frozen=True)
class Known:
    """Pictures that stand already: an index of their fingerprints, and their ids, (n, 32) uint8, at the same places."""

    index: Index
    ids: NDArray[np.uint8]

    @classmethod
    def of(cls, fingerprints: list[bytes], ids: list[str]) -> "Known":
        """Return pictures by their fingerprints and `image_id`s."""
        return cls(Index.of(_matrix(fingerprints)), _packed(ids))

    @classmethod
    def open(cls, path: str) -> "Known":
        """Return what `save` wrote, as far as possible left in its file. Raises RunError."""
        index = Index.open(path)
        beside, size = path + _IDS, _ID_BYTES * len(index)
        try:
            ids = np.fromfile(beside, np.uint8)
        except OSError as error:
            raise RunError(f"{printable(beside)} cannot be read: {error.strerror}; run again.") from error
        if ids.size != size:
            raise RunError(f"{printable(beside)} has {ids.size:,} bytes, expected {size:,}: run again.")
        return cls(index, ids.reshape(-1, _ID_BYTES))

    def save(self, path: str) -> None:
        """Write two files, at `path` and beside it, each atomically."""
        write_atomic(path + _IDS, self.ids.tobytes())
        self.index.save(path)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, fingerprints: list[bytes], ids: list[str]) -> "Known":
        """Return these pictures with more behind them."""
        return Known(self.index.add(_matrix(fingerprints)), np.concatenate([self.ids, _packed(ids)]))

    def without(self, ids: list[str]) -> "Known":
        """Return these pictures but for those named."""
        left = ~np.isin(_whole(self.ids), _whole(_packed(ids)))
        return self if left.all() else Known(Index.of(self.index.fingerprints[left]), self.ids[left])

    def id_at(self, place: int) -> str:
        """Return the `image_id` of a picture by its place."""
        return bytes(self.ids[place]).hex()


def mark_near_copies(tables: Tables, known: Known) -> Tables:
    """Make duplicates of the pictures that show the same as a `known` one, or else as a better one of the shard.

    The better one has more pixels, then the larger file, then it is the earlier. Each mark is a row of `changes`; the
    annotations of what is marked go to `quarantine`. Exact copies of a picture that is marked follow it.
    """
    stands = _stands(tables.images, known)
    if not stands:
        return tables
    ids, before = (tables.images[name].to_pylist() for name in ("image_id", "duplicate_of"))
    marked = {at: stands[image] for at, image in enumerate(ids) if image in stands}
    followers = {at: stands[leader] for at, leader in enumerate(before) if leader in stands}
    images = with_values(tables.images, "duplicate_of", marked | followers)
    images = with_values(images, "outcome", dict.fromkeys(marked, Outcome.DUPLICATE.value))
    images = with_values(images, "annotations", dict.fromkeys(marked, 0))
    held = tables.annotations.filter(is_one_of(tables.annotations["image_id"], stands))
    return settle(
        replace(
            tables,
            images=images,
            annotations=without(tables.annotations, "image_id", stands),
            changes=appended(tables.changes, _changes(tables.images, images, sorted(marked | followers))),
            quarantine=appended(tables.quarantine, _held(held, tables.images, stands)),
        )
    )


def _stands(images: pa.Table, known: Known) -> dict[str, str]:
    """Return the ids of near copies, each with that of the picture that stands for it."""
    seen = np.flatnonzero(images["fingerprint"].is_valid().to_numpy())
    if not seen.size:
        return {}
    own = images.select(["image_id", "fingerprint", "width", "height", "size_bytes"]).take(pa.array(seen))
    ids = own["image_id"].to_pylist()
    width, height, size = (own[name].cast(pa.int64()).to_numpy() for name in ("width", "height", "size_bytes"))
    best_first = np.lexsort((-size, -width * height))  # stable: the earlier first
    found = groups(_matrix(own["fingerprint"].to_pylist()), known=known.index if len(known) else None, order=best_first)
    return {
        image: known.id_at(old) if old >= 0 else ids[first]
        for at, (image, old, first) in enumerate(zip(ids, found.known.tolist(), found.first.tolist(), strict=True))
        if old >= 0 or first != at
    }


def _changes(before: pa.Table, after: pa.Table, rows: list[int]) -> list[Row]:
    columns = ["image_id", "item_key", "file_name", "duplicate_of"]
    where = pa.array(rows, pa.int64())
    stood = before["duplicate_of"].take(where).to_pylist()
    return [
        {
            "kind": "image",
            "id": row["image_id"],
            "field": "duplicate_of",
            "before": stood[at],
            "after": row.pop("duplicate_of"),
            "rule": Rule.DUPLICATE_NEAR.value,
            "rule_version": _RULE_VERSION,
            "confidence": 1.0,
            **row,
        }
        for at, row in enumerate(after.select(columns).take(where).to_pylist())
    ]


def _held(annotations: pa.Table, images: pa.Table, stands: Mapping[str, str]) -> list[Row]:
    names: dict[str, Any] = dict(zip(images["image_id"].to_pylist(), images["file_name"].to_pylist(), strict=True))
    own = annotations.select(["annotation_id", "image_id", "item_key"]).to_pylist()
    return [
        {
            "kind": "annotation",
            "id": row.pop("annotation_id"),
            "file_name": names[row["image_id"]],
            "rule": Rule.DUPLICATE_NEAR.value,
            "field": "duplicate_of",
            "value": stands[row["image_id"]],
            "detail": f"its picture is a copy of {stands[row['image_id']]}",
            "held": held,
            **row,
        }
        for row, held in zip(own, held_rows(annotations, range(len(own))), strict=True)
    ]


def _matrix(fingerprints: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _packed(ids: list[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, _ID_BYTES)


def _whole(ids: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return each id as one value."""
    return np.ascontiguousarray(ids).view(f"V{_ID_BYTES}")[:, 0]
