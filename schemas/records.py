"""The small records that travel: references to items, failures, and what a model found."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Repair:
    """A value of a message that could not be used, and what stands in its place; null for nothing."""

    field: str
    before: str | None
    after: str | None
    rule: str


@dataclass(frozen=True)
class Sent:
    """What a message said of the picture that it is, or names.

    `source_id` names the camera or producer, null where it is not told; `frame_index` counts its frames. `span` is the
    offset and the length in bytes of the picture in its file, null for a whole file. `repairs` tell of values that
    could not be used. `error` and `message` tell why the message has no picture; empty where it has one.
    """

    source_id: str | None
    frame_index: int | None
    span: tuple[int, int] | None
    repairs: tuple[Repair, ...]
    error: str
    message: str


@dataclass(frozen=True)
class ImageRef:
    """One planned file, or message: a reference, never its bytes.

    `number` counts the plan's items from 0 in listing order. `key` recognises the item in later runs: a hash over its
    root, name, size and time. `root` is the number of the input root in the data set. `uri` is as the user named it;
    `file_name` is relative to the root, with forward slashes. `mtime_ns` is null where the source keeps no time.
    `attempts` counts the committed epochs that ended with this item failed. `sent` is null for a file; a message is
    called topic/partition/offset, and its time is that of the picture. `etag` is the object store's name for it.
    """

    number: int
    key: str
    root: int
    uri: str
    file_name: str
    size: int
    mtime_ns: int | None
    attempts: int
    sent: Sent | None = None
    etag: str | None = None

    @property
    def version(self) -> str:
        """What changes whenever the content does: the etag, or the time."""
        return version(self.mtime_ns, self.etag)


@dataclass(frozen=True)
class Standing:
    """The committed picture, or video, that stands for its exact copies; sizes in pixels."""

    image_id: str
    width: int
    height: int


@dataclass(frozen=True)
class Clip:
    """Frames of one video that are decoded together, exactly: what the planner took from the video's index.

    `kind` is what `transforms.kinds.sniff` calls the file. `pts` are the wanted frames' times in units of `time_base`
    seconds (a fraction), ascending; `frames` their numbers in the whole video, from 0 in the order of showing; `starts`
    the time of the key frame from which each must be decoded. Where the file tells no times (`listed` is false) these
    are empty, and the video is read once from its beginning.
    `last` says that no other clip of the video follows. `error` and `message` tell why nothing can be read behind the
    clip; empty where it is whole.
    """

    kind: str
    time_base: tuple[int, int]
    listed: bool
    pts: tuple[int, ...]
    frames: tuple[int, ...]
    starts: tuple[int, ...]
    last: bool
    error: str
    message: str


@dataclass(frozen=True)
class Moment:
    """Where a frame stands in its video: `frame` counts from 0, `pts` is in its stream's time base."""

    frame: int
    pts: int
    pts_ms: float


@dataclass(frozen=True)
class PlannedItem:
    """One picture to label, with its exact copies in the same plan; or a clip; or one copy of what is committed.

    `sha256` is empty unless the planner read the bytes, to look for copies or because it is a video. `stands` is null
    unless something committed has the same bytes; then nothing is decoded. `clip` is null for a picture; the copies of
    a video ride along with its first clip.
    """

    ref: ImageRef
    sha256: str
    copies: tuple[ImageRef, ...]
    stands: Standing | None
    clip: Clip | None

    def refs(self) -> tuple[ImageRef, ...]:
        """Return the item's reference and those of its copies."""
        return (self.ref, *self.copies)


@dataclass(frozen=True)
class Failure:
    """One failed item: code could not do it. `message` is one line; no payload.

    `frame` is the failed frame's number in its video, null for a picture; with `rest`, all that follow are lost too.
    """

    ref: ImageRef
    step: str
    error: str
    message: str
    frame: int | None
    rest: bool


@dataclass(frozen=True)
class Faces:
    """Faces of one picture, best score first.

    `boxes` (n, 4) float32: x, y, width, height in pixels, origin top-left.
    `landmarks` (n, 5, 2) float32: x then y in pixels; right eye, left eye, nose, right and left corner of the mouth
    (the subject's right, which is the image's left); NaN where the detector gives none.
    `scores` (n,) float32 in 0..1; NaN where no detector looked.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Faces":
        """Return the faces that `which`, a mask or indices, selects."""
        return Faces(self.boxes[which], self.landmarks[which], self.scores[which])

    def at_least(self, side_px: float) -> "Faces":
        """Return the faces whose box has at least `side_px` pixels on its longer side."""
        return self.take(self.boxes[:, 2:].max(axis=1, initial=0.0) >= side_px)

    def scaled(self, factor: float) -> "Faces":
        """Return the same faces in a picture that is `factor` times as large."""
        factor32 = np.float32(factor)
        return Faces(self.boxes * factor32, self.landmarks * factor32, self.scores)

    @staticmethod
    def none() -> "Faces":
        """Return no faces."""
        return Faces(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))


def image_id(content: str, root: int, file_name: str, pts: int | None = None) -> str:
    """Return an item's identity as 64 hex digits: what it holds and where it stands.

    `content` is the sha256 of the file's bytes or ''; `pts` is a frame's time in its stream's time base. The first
    root's number is left out, so that a data set of one input has the same ids wherever it is made.
    """
    name = file_name if root == 0 else f"{root}\0{file_name}"
    return hashlib.sha256(
        "\n".join((content, name, "" if pts is None else str(pts))).encode("utf-8", "surrogateescape")
    ).hexdigest()


def item_key(root: int, file_name: str, size: int, version: str) -> str:
    """Return 32 hex digits that recognise a file in a later run; see `version`."""
    text = f"{root}\n{file_name}\n{size}\n{version}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def version(mtime_ns: int | None, etag: str | None) -> str:
    """Return what tells one content of a file from the next: its etag where there is one, which no clock can spoil."""
    return str(mtime_ns) if etag is None else etag
