"""Decode: bytes -> uint8 RGB pictures and frames, within a budget of bytes over all decoding threads."""

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache

import apache_beam as beam
import cv2
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.errors import ItemError
from schemas.records import Clip, Failure, ImageRef, PlannedItem, Standing, image_id, version
from transforms.ahead import ahead
from transforms.batch import Aligned, Decoded, DecodedBatch, PlannedBatch
from transforms.budget import ByteBudget
from transforms.clock import clocked, clocked_items
from transforms.fetching import Fetching
from transforms.fingerprint import fingerprint
from transforms.pictures import Header, decode, decoded_bytes, probe
from transforms.stopping import stop_requested, tick
from transforms.storage import opened, read_bytes, state_of
from transforms.video import Frame, read_clip


@dataclass(frozen=True)
class Room:
    """Bytes of decoded pixels: `batch_bytes` after which a batch goes on, `process_bytes` for all threads together."""

    batch_bytes: int
    process_bytes: int


CPU_ROOM = Room(32 * 2**20, 256 * 2**20)
"""A batch of five 1080p frames, beyond which batching gains nothing on a CPU; in all, one picture at the default
pixel limit (192 MB) with what is needed beside it, or hundreds of ordinary ones."""

GPU_ROOM = Room(512 * 2**20, 1536 * 2**20)
"""A GPU's batches are filled across pictures: tens of them for the detector, hundreds of crops."""


@cache
def shared_budget(total: int) -> ByteBudget:
    """Return the one budget of this process."""
    return ByteBudget(total)


_FINGERPRINT_PX = 256
"""The long side in pixels that a fingerprint needs."""


def reduce_to(detect_size: int | None, *, fingerprints: bool = False) -> int | None:
    """Return the long side in pixels that a decoded picture must keep, or None where it must stay full.

    Detectors see the picture at `detect_size`; the smallest face that they find there reliably has about 16 px, and the
    classifiers' crops have 48 to 64. So three times the detection size keeps every crop at its full sharpness.
    """
    return None if detect_size is None else max(3 * detect_size, _FINGERPRINT_PX if fingerprints else 0)


class FileChanged(ItemError):
    """The file is not what the plan saw."""

    def __init__(self) -> None:
        super().__init__("changed", "the file changed between planning and reading: run again with --retry-failed")


_OF_THE_FILE = frozenset({"not_found", "unreadable", "changed"})
"""Errors that say nothing of a copy, which is another file with the same content."""


@dataclass
class Decode(beam.PTransform):
    """Read and decode planned pictures and clips; outputs `batches` and `failed`.

    `max_bytes` bounds a picture's file, `max_pixels` a picture and a frame, both before any pixel is made. Videos are
    read in parts, whatever their size. `keep_side_px` is the long side that reduced decoding must keep (None: never
    reduce). `frames` says which frames are wanted where a clip does not list them; see `transforms.sampling.pick`.
    `fingerprints` says whether pictures, not frames, get theirs.
    """

    max_bytes: int
    max_pixels: int
    keep_side_px: int | None
    frames: str
    room: Room
    fingerprints: bool = False

    def expand(self, planned: PCollection[PlannedBatch]) -> beam.pvalue.DoOutputsTuple:
        """Return the named outputs `batches` and `failed`."""
        decode_batches = beam.ParDo(_DecodeBatches(self))
        typed = decode_batches.with_output_types(DecodedBatch, failed=tuple[int, Failure])
        return planned | "Read and decode" >> typed.with_outputs("failed", main="batches")


class _DecodeBatches(beam.DoFn):
    def __init__(self, limits: Decode) -> None:
        self.max_bytes = limits.max_bytes
        self.max_pixels = limits.max_pixels
        self.keep_side_px = limits.keep_side_px
        self.frames = limits.frames
        self.room = limits.room
        self.fingerprints = limits.fingerprints

    def setup(self) -> None:
        cv2.setNumThreads(1)  # the workers are the threads: more of them would only fight for the same cores

    def process(self, planned: PlannedBatch) -> Iterator[DecodedBatch | TaggedOutput]:
        first = planned.items[0]
        if first.clip is not None:
            return self._clip(planned.shard, first, first.clip)
        return self._pictures(planned)

    def _pictures(self, planned: PlannedBatch) -> Iterator[DecodedBatch | TaggedOutput]:
        budget = shared_budget(self.room.process_bytes)
        copies = tuple(item for item in planned.items if item.stands)
        waiting = deque(item for item in planned.items if not item.stands)
        fetching = Fetching([item.ref for item in waiting], self._bytes_of)
        held: list[Decoded] = []
        reserved = 0
        try:
            while waiting:
                if stop_requested():
                    return  # the supervisor drops the epoch: what is missing from it is never seen
                item = waiting.popleft()
                try:
                    data, header = self._read(item, fetching)
                    peak = min(decoded_bytes(header, self.keep_side_px), budget.total)
                    # Whoever holds bytes never waits for more: it hands its batch on first, so no two threads can
                    # wait for each other.
                    if reserved + peak > self.room.batch_bytes or not budget.try_acquire(peak):
                        if held:
                            yield DecodedBatch(planned.shard, tuple(held), ())
                            held.clear()
                        budget.release(reserved)
                        reserved = 0
                        budget.acquire(peak)
                    before, reserved = reserved, reserved + peak
                    kept = 0
                    try:
                        with clocked("decode"):
                            held.append(self._decode(item, data, header))
                        kept = min(held[-1].rgb.nbytes, peak)
                    finally:
                        budget.release(peak - kept)
                        reserved = before + kept
                except ItemError as error:
                    yield from self._failed(planned.shard, item, error, waiting)
            if held or copies:
                yield DecodedBatch(planned.shard, tuple(held), copies)
        finally:
            fetching.close()
            budget.release(reserved)

    @staticmethod
    def _failed(shard: int, item: PlannedItem, error: ItemError, waiting: deque[PlannedItem]) -> Iterator[TaggedOutput]:
        """Yield the failures; where it was this file that failed and not its content, the next copy takes its place."""
        if error.error in _OF_THE_FILE and item.copies:
            waiting.appendleft(replace(item, ref=item.copies[0], copies=item.copies[1:]))
            item = replace(item, copies=())
        yield from failed(shard, item, "decode", error)

    def _read(self, item: PlannedItem, fetching: Fetching) -> tuple[bytes, Header]:
        with clocked("decode"):
            data = fetching.read(item.ref)
            return data, probe(data, max_pixels=self.max_pixels)

    def _bytes_of(self, ref: ImageRef) -> bytes:
        sent = ref.sent
        if sent is not None and sent.error:
            raise ItemError(sent.error, sent.message)
        return read_bytes(ref.uri, self.max_bytes, sent.span if sent else None)

    def _decode(self, item: PlannedItem, data: bytes, header: Header) -> Decoded:
        sha256 = hashlib.sha256(data).hexdigest()
        if item.sha256 not in ("", sha256):
            raise FileChanged
        picture = decode(data, max_pixels=self.max_pixels, reduce_to=self.keep_side_px, header=header)
        looks = fingerprint(picture.rgb) if self.fingerprints else None
        return Decoded(item, None, sha256, picture.width, picture.height, picture.rgb, picture.scale, looks)

    def _clip(self, shard: int, item: PlannedItem, clip: Clip) -> Iterator[DecodedBatch | TaggedOutput]:
        """Yield the clip's frames in batches, while the next ones are decoded beside what becomes of these."""
        budget = shared_budget(self.room.process_bytes)
        frame_of = replace(item, copies=())
        copies, next_frame = item.copies, clip.frames[0] if clip.frames else 0
        held: list[Decoded] = []
        reserved = 0
        error: ItemError | None = None
        ahead_bytes = self.room.process_bytes // (8 * (os.cpu_count() or 1))
        try:
            try:
                frames = clocked_items("decode", self._frames(item, clip))
                for frame in ahead(frames, lambda frame: frame.rgb.nbytes, ahead_bytes):
                    if stop_requested():
                        return  # as with pictures
                    size = frame.rgb.nbytes
                    if reserved + size > self.room.batch_bytes or not budget.try_acquire(size):
                        if held:
                            yield DecodedBatch(shard, tuple(held), _of_same_video(item, copies, held[0]))
                            held, copies = [], ()
                        budget.release(reserved)
                        reserved = 0
                        budget.acquire(size)
                    reserved += size
                    next_frame = frame.moment.frame + 1
                    height, width = frame.rgb.shape[:2]
                    held.append(Decoded(frame_of, frame.moment, item.sha256, width, height, frame.rgb, 1.0))
            except ItemError as raised:
                error = raised
            if held:  # what was decoded before an error is good
                yield DecodedBatch(shard, tuple(held), _of_same_video(item, copies, held[0]))
                copies = ()
        finally:
            budget.release(reserved)
        if error is not None:
            # Of a video without one good frame the copies fail too.
            rest = error.error != "missing_frames"
            yield from failed(shard, replace(item, copies=copies), "decode", error, next_frame, rest)

    def _frames(self, item: PlannedItem, clip: Clip) -> Generator[Frame, None, None]:
        if item.ref.sent is None and not (clip.listed and not clip.pts):
            _require_unchanged(item.ref)
        found = False
        for frame in read_clip(item.ref.uri, clip, wanted=self.frames, max_pixels=self.max_pixels):
            found = True
            yield frame
        if not found:
            raise ItemError("no_video", "expected a video, but none of its frames could be decoded")


def _require_unchanged(ref: ImageRef) -> None:
    state = state_of(ref.uri)
    if state is None:
        with opened(ref.uri):  # tells why
            raise FileChanged
    if (state.size, version(state.mtime_ns, state.etag)) != (ref.size, ref.version):
        raise FileChanged


def _of_same_video(item: PlannedItem, copies: tuple[ImageRef, ...], frame: Decoded) -> tuple[PlannedItem, ...]:
    """Return the copies of a video, of which one frame was decoded: duplicates of the whole."""
    stands = Standing(image_id(item.sha256, item.ref.root, item.ref.file_name), frame.width, frame.height)
    return tuple(PlannedItem(copy, item.sha256, (), stands, None) for copy in copies)


def failed(
    shard: int, item: PlannedItem, step: str, error: ItemError, frame: int | None = None, rest: bool = False
) -> Iterator[TaggedOutput]:
    """Yield one failure for the item and one for each of its exact copies, which would fail alike.

    `frame` and `rest` are as in `Failure`.
    """
    tick(len(item.refs()))
    for ref in item.refs():
        yield TaggedOutput("failed", (shard, Failure(ref, step, error.error, str(error), frame, rest)))


def failed_picture(shard: int, picture: Decoded | Aligned, step: str, error: ItemError) -> Iterator[TaggedOutput]:
    """Yield the failures of a picture, or of a single frame, that was decoded but could not be labelled."""
    if picture.moment is None:
        return failed(shard, picture.item, step, error)
    frame = picture.moment.frame
    return failed(shard, picture.item, step, ItemError(error.error, f"frame {frame}: {error}"), frame)
