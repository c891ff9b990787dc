"""Find pictures that show the same among many: an index of fingerprints, and groups.

Two fingerprints are compared by `likeness.differences` if their hashes suggest it. A hash has one bit, its sign, for
each of the 64 lowest frequencies; cropping changes them, so a picture has one more hash for each of some windows: what
its hash would be if it were cropped there. Hashes suggest a pair if one's for some window is near the other's own.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ItemError, RunError
from transforms.fingerprint import FINGERPRINT_BYTES, VERSION, U, V, levels, mirrored
from transforms.likeness import differences, waves
from transforms.storage import opened, printable, replacing

_Bytes = NDArray[np.uint8]
_Hashes = NDArray[np.uint64]
_Places = NDArray[np.int64]

# ------------------------------------------------------------------------------------------------------------ hashes

_CROP = 0.045
_CORNERS = ((0.0, 0.0), (_CROP, _CROP), (_CROP, 0.0), (0.0, _CROP))
_WINDOWS = (
    *((across, down) for across in _CORNERS for down in _CORNERS),
    *(((one, other), (0.0, 0.0)) for one, other in ((0.09, 0.0), (0.0, 0.09))),
    *(((0.0, 0.0), (one, other)) for one, other in ((0.09, 0.0), (0.0, 0.09))),
    ((0.085, 0.085), (0.085, 0.085)),
)
"""What is cropped left and right, and above and below, in sides; first nothing.

Where the true crop is within 0.03 of one of them on each side, a hash changes by 3 bits, seldom 6 (measured): so these
find any crop up to 0.06 a side, and up to 0.1 a crop of one side, or of all alike.
"""

_CROPS = len(_WINDOWS) - 1
_BITS = 64
_MAX_BITS = 8
"""Bits in which a window's hash may differ. Pictures changed in 45 ways: 95 % within 6."""

_MAX_BITS_UNCROPPED = 20
"""Bits in which the pictures' own hashes may differ: one pass over these finds all that can be near."""


def _window(across: tuple[float, float], down: tuple[float, float]) -> NDArray[np.float32]:
    """Return what turns a picture's amplitudes into those of its part: (`FREQUENCIES`, `_BITS`)."""
    at = (np.arange(_BITS) + 0.5) / _BITS
    whole = waves((at - 0.5).astype(np.float32)).T / _BITS
    columns, rows = (whole @ waves((cut[0] + (1 - sum(cut)) * at - 0.5).astype(np.float32)) for cut in (across, down))
    low_v, low_u = V[:_BITS], U[:_BITS]
    return np.asarray((rows[np.ix_(low_v, V)] * columns[np.ix_(low_u, U)]).T.astype(np.float32))


_TO_WINDOWS = np.concatenate([_window(*window) for window in _WINDOWS[1:]], axis=1)


def _hashes(fingerprints: _Bytes) -> _Hashes:
    """Return the hashes of the fingerprints, (k, windows): first their own."""
    found = np.empty((len(fingerprints), len(_WINDOWS)), np.uint64)
    for start in range(0, len(fingerprints), 4096):
        amplitudes = levels(fingerprints[start : start + 4096])
        signs = np.concatenate([amplitudes[:, :_BITS], amplitudes @ _TO_WINDOWS], axis=1) > 0
        found[start : start + 4096] = np.packbits(signs, axis=1).view("<u8")
    return found


def _share_word(differing: _Hashes) -> NDArray[np.bool_]:
    """Say where one of a hash's eight words is equal, given the bits that differ."""
    return np.asarray(np.logical_or.reduce([_word(differing, which) == 0 for which in range(_WORDS)]))


_WORDS = 8


def _word(hashes: _Hashes, which: int) -> NDArray[np.uint16]:
    """Return 16 of a hash's bits: of eight words, the first four are neighbours, the others every fourth bit."""
    if which < 4:
        return (hashes >> np.uint64(16 * which)).astype(np.uint16)
    spread = hashes >> np.uint64(which - 4) & np.uint64(0x1111111111111111)
    for shift, mask in ((3, 0x0303030303030303), (6, 0x000F000F000F000F), (12, 0x000000FF000000FF), (24, 0xFFFF)):
        spread = (spread | spread >> np.uint64(shift)) & np.uint64(mask)
    return spread.astype(np.uint16)


# ------------------------------------------------------------------------------------------------------------- index

_MAGIC = b"labelstream near"
_HEADER = struct.Struct("<16sIIQI28x")
"""Magic, version of this format, of the fingerprints, how many, and a CRC-32 of what follows, in 64 bytes."""

_FORMAT = 1
_ROW_BYTES = FINGERPRINT_BYTES + 8 * len(_WINDOWS)


class IndexUnusable(RunError):
    """An index's file is damaged, or of another version: it is to be built again from the fingerprints."""


@dataclass(frozen=True)
class Index:
    """Fingerprints, (n, `FINGERPRINT_BYTES`), with their hashes: `own` (n,), and `cropped` (n, windows).

    Whatever is found is told by its position. The arrays may lie in a file: what is not looked at takes no memory.
    """

    fingerprints: _Bytes
    own: _Hashes
    cropped: _Hashes

    @classmethod
    def of(cls, fingerprints: _Bytes) -> "Index":
        """Return the index of fingerprints; about ten seconds for a million."""
        hashes = _hashes(fingerprints)
        return cls(fingerprints, hashes[:, 0].copy(), hashes[:, 1:].copy())

    @classmethod
    def open(cls, path: str) -> "Index":
        """Return the index that `save` wrote, as far as possible left in its file. Raises IndexUnusable."""
        try:
            with opened(path) as file:
                head = file.read(_HEADER.size)
            content = np.memmap(path, np.uint8, mode="r")
        except (ItemError, OSError, ValueError) as error:
            raise IndexUnusable(f"{printable(path)} cannot be read: {error}") from error
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            raise IndexUnusable(f"{printable(path)} is no index of fingerprints: it begins with {head[:16].hex(' ')}.")
        _, form, version, count, checksum = _HEADER.unpack(head)
        if (form, version) != (_FORMAT, VERSION):
            raise IndexUnusable(
                f"{printable(path)} is of version {form}.{version}, expected {_FORMAT}.{VERSION}: build it again."
            )
        body = content[_HEADER.size :]
        if len(body) != count * _ROW_BYTES or zlib.crc32(body.data) != checksum:
            raise IndexUnusable(f"{printable(path)} is damaged: build it again.")
        own, cropped, fingerprints = np.split(body, [8 * count, 8 * len(_WINDOWS) * count])
        return cls(
            fingerprints.reshape(count, FINGERPRINT_BYTES), own.view("<u8"), cropped.view("<u8").reshape(count, _CROPS)
        )

    def save(self, path: str) -> None:
        """Write the index to a file, atomically. Raises RunError."""
        parts = [np.ascontiguousarray(part).data for part in (self.own, self.cropped, self.fingerprints)]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        with replacing(path) as file:
            file.write(_HEADER.pack(_MAGIC, _FORMAT, VERSION, len(self), checksum))
            for part in parts:
                file.write(part)

    def __len__(self) -> int:
        return len(self.fingerprints)

    def add(self, fingerprints: _Bytes) -> "Index":
        """Return an index that has these behind its own."""
        more = Index.of(fingerprints)
        return Index(
            np.concatenate([self.fingerprints, more.fingerprints]),
            np.concatenate([self.own, more.own]),
            np.concatenate([self.cropped, more.cropped]),
        )

    def search(self, fingerprint: bytes, *, mirror: bool = False) -> _Places:
        """Return the positions of the pictures that show the same, with `mirror` also mirrored: the nearest first."""
        asked = np.frombuffer(fingerprint, np.uint8)[None]
        places, apart = self._same(asked)
        if mirror:
            others, others_apart = self._same(mirrored(asked))
            places, apart = np.concatenate([places, others]), np.concatenate([apart, others_apart])
        places = places[np.argsort(apart, kind="stable")]
        return places[np.sort(np.unique(places, return_index=True)[1])]

    def _same(self, asked: _Bytes) -> tuple[_Places, NDArray[np.float32]]:
        places = self.suggested(asked)
        apart = differences(np.broadcast_to(asked, (len(places), FINGERPRINT_BYTES)), self.fingerprints[places])
        same = apart <= 1
        return places[same], apart[same]

    def suggested(self, asked: _Bytes) -> _Places:
        """Return the positions that the hashes suggest for one fingerprint, (1, `FINGERPRINT_BYTES`), ascending."""
        hashes = _hashes(asked)[0]
        places, left = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for start in range(0, len(self), _CACHED):
            own = self.own[start : start + _CACHED]
            near = np.flatnonzero(np.bitwise_count(own ^ hashes[0]) <= _MAX_BITS_UNCROPPED)
            for differing in (own[near, None] ^ hashes, self.cropped[start + near] ^ hashes[0]):
                few = np.flatnonzero(np.bitwise_count(differing) <= _MAX_BITS)
                places.append(start + near[few // differing.shape[1]])
                left.append(differing.ravel()[few])
        return np.unique(np.concatenate(places)[_share_word(np.concatenate(left))])


_CACHED = 1 << 15
"""Hashes that fit a core's cache."""


# ------------------------------------------------------------------------------------------------------------ groups

_MOST_ALIKE = 1024
"""With how many of those that share a word of its hash a picture is compared: the first of them. More are a crowd, such
as the frames of a camera that does not move; of 600,000 aligned faces at most 1,300 share one (measured)."""

_MOST_SUGGESTED = 32
"""With how many of those that the hashes suggest a picture is compared in the end: the first."""

_AT_ONCE = 1 << 21
"""Pairs of hashes that are compared at once, which bounds the memory."""

_COMPARED_AT_ONCE = 1 << 16
"""Pairs of fingerprints, for the same reason."""


@dataclass(frozen=True)
class Groups:
    """What each picture shows again: `known` (n,) is a position in the index, or -1; `first` (n,) the picture among
    those that were asked for that stands for it, itself if it shows nothing again.
    """

    known: _Places
    first: _Places


def groups(
    fingerprints: _Bytes,
    *,
    known: Index | None = None,
    mirror: bool = False,
    order: _Places | None = None,
    apart: _Places | None = None,
) -> Groups:
    """Group the pictures, (n, `FINGERPRINT_BYTES`), that show the same, with `mirror` also mirrored.

    Each is compared with the one that stands for its group, so that no chain leads from one picture to one unlike it.
    `order` lists the pictures, best first: the better ones stand for the others; without it, fingerprints are sorted.
    The groups depend on nothing else, so not on how the pictures are listed. One that is `known` stands for none.
    `apart` (n,) numbers what is never grouped with its like, such as the frames of one video; -1 for all others.
    """
    count = len(fingerprints)
    if order is None:
        order = np.lexsort(fingerprints.T[::-1])
    new = Index.of(fingerprints[order])
    numbers = np.full(count, -1, np.int64) if apart is None else apart[order]
    shown = np.full(count, -1, np.int64)
    if known is not None:
        for place, position in _same_pairs(new, mirror, known=known):
            if shown[place] < 0:
                shown[place] = position
    leader = np.arange(count)
    for place, better in _same_pairs(new, mirror, numbers=numbers):
        if shown[place] < 0 and shown[better] < 0 and leader[place] == place and leader[better] == better:
            leader[place] = better
    result = Groups(np.empty(count, np.int64), np.empty(count, np.int64))
    result.known[order] = shown
    result.first[order] = order[leader]
    return result


def _same_pairs(
    new: Index, mirror: bool, *, known: Index | None = None, numbers: _Places | None = None
) -> Iterator[tuple[int, int]]:
    """Give the pairs that show the same, ascending: of `new` and `known`, else of `new` and an earlier one of it."""
    there = new if known is None else known
    found = [np.empty(0, np.uint64)]
    for asked in (new, Index.of(mirrored(new.fingerprints))) if mirror else (new,):
        pairs = _suggested(asked, there, among=known is None, numbers=numbers)
        for start in range(0, len(pairs), _COMPARED_AT_ONCE):
            chunk = pairs[start : start + _COMPARED_AT_ONCE]
            place, other = _split(chunk)
            found.append(chunk[differences(asked.fingerprints[place], there.fingerprints[other]) <= 1])
    place, other = _split(np.unique(np.concatenate(found)))
    return zip(place.tolist(), other.tolist(), strict=True)


def _suggested(asked: Index, there: Index, *, among: bool, numbers: _Places | None = None) -> NDArray[np.uint64]:
    """Return the pairs that the hashes suggest, ascending: as `_joined`, of `asked` and of `there`.

    With `among`, both list the same pictures: the later of two comes first. Those of equal `numbers` are left out.
    """
    pairs, waiting, size = np.empty(0, np.uint64), [np.empty(0, np.uint64)], 0
    for first, second in _meetings(asked, there, among):
        if among:
            first, second = np.maximum(first, second), np.minimum(first, second)
        fit = (first != second) | (not among)
        if numbers is not None:
            fit &= (numbers[first] != numbers[second]) | (numbers[first] < 0)
        waiting.append(_joined(first[fit], second[fit]))
        size += len(waiting[-1])
        if size > _AT_ONCE:
            pairs, waiting, size = _first_of_each(np.concatenate([pairs, *waiting])), [], 0
    return _first_of_each(np.concatenate([pairs, *waiting]))


def _meetings(asked: Index, there: Index, among: bool) -> Iterator[tuple[_Places, _Places]]:
    """Give the places of pairs that the hashes suggest, often more than once."""
    for which in range(_WORDS):
        yield from _crops_of(asked, there, which)
        if not among:  # else each comes to be asked
            yield from ((first, second) for second, first in _crops_of(there, asked, which))


def _crops_of(whole: Index, parts: Index, which: int) -> Iterator[tuple[_Places, _Places]]:
    """Give pairs of which the second may be a crop of the first, and their hashes share one word."""
    table = _Table.of(parts.own, which)
    for hashes in (whole.own, *whole.cropped.T):
        for first, second in table.near(hashes, which):
            near = np.bitwise_count(whole.own[first] ^ parts.own[second]) <= _MAX_BITS_UNCROPPED
            yield first[near], second[near]


def _joined(first: _Places, second: _Places) -> NDArray[np.uint64]:
    """Return pairs of places as single numbers, which are sorted fast."""
    return np.asarray(first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64))


def _split(pairs: NDArray[np.uint64]) -> tuple[_Places, _Places]:
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _first_of_each(pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the pairs ascending, each once, and of each place the first `_MOST_SUGGESTED`."""
    pairs = np.unique(pairs)
    place, _ = _split(pairs)
    return pairs[np.arange(len(pairs)) - np.searchsorted(place, place) < _MOST_SUGGESTED]


@dataclass(frozen=True)
class _Table:
    """Hashes by one of their words: sorted, where they were, and where each word's begin."""

    hashes: _Hashes
    places: NDArray[np.int32]
    starts: NDArray[np.int32]

    @classmethod
    def of(cls, hashes: _Hashes, which: int) -> "_Table":
        words = _word(hashes, which)
        places = np.argsort(words, kind="stable").astype(np.int32)
        starts = np.concatenate([[0], np.cumsum(np.bincount(words, minlength=1 << 16))]).astype(np.int32)
        return cls(hashes[places], places, starts)

    def near(self, hashes: _Hashes, which: int) -> Iterator[tuple[_Places, _Places]]:
        """Give pairs of places, of `hashes` and of the table's, that share the word and differ in few bits."""
        words = _word(hashes, which).astype(np.int64)
        begins = self.starts[words]
        counts = np.minimum(self.starts[words + 1] - begins, _MOST_ALIKE)
        ends = np.cumsum(counts, dtype=np.int64)
        at = 0
        while at < len(hashes):
            upto = max(int(np.searchsorted(ends, (ends[at - 1] if at else 0) + _AT_ONCE, side="right")), at + 1)
            part = counts[at:upto]
            asked = np.repeat(np.arange(at, upto, dtype=np.int32), part)
            shift = begins[at:upto] - (np.cumsum(part) - part)
            slots = np.arange(len(asked), dtype=np.int32) + np.repeat(shift.astype(np.int32), part)
            near = np.flatnonzero(np.bitwise_count(hashes[asked] ^ self.hashes[slots]) <= _MAX_BITS)
            yield asked[near].astype(np.int64), self.places[slots[near]].astype(np.int64)
            at = upto
