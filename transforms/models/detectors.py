"""Pictures in, faces out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models import golden, graphs, views, weights
from transforms.models.boxes import BoxNet
from transforms.models.crops import INTERPOLATION
from transforms.models.mtcnn import Mtcnn
from transforms.models.record import ModelRecord, load_record
from transforms.models.runtime import Device, Net
from transforms.models.yunet import Yunet

Picture = NDArray[np.uint8]

SECOND_SIDE, SECOND_MARGIN = 64, 0.25
"""The second look: longer side in pixels, and the repeated edge around it in parts of that side.

Measured with yunet on 262 faces cut out tightly: found as 48x48 gray .958 -> .981, enlarged to 1500 px .969 -> .992;
ghosts on 59 pictures without faces 2 -> 2, on 708 random parts of them 7 -> 8. Larger sides find more ghosts.
"""


class Detector(Protocol):
    """What finds faces."""

    @property
    def record_name(self) -> str: ...

    @property
    def sha256(self) -> str:
        """The weights' sha256, 64 hex digits; empty for a detector without weights."""

    def detect(self, pictures: Sequence[Picture]) -> list[Faces]:
        """Return the faces of each RGB picture (H, W, 3) in its own pixels, best score first."""


class Look(Protocol):
    """A net and how to read it; looks at pictures that were brought to its scale."""

    @property
    def fixed(self) -> tuple[int, int] | None:
        """Height and width of the only input that the net takes, or None for any."""

    def __call__(self, pictures: Sequence[Picture]) -> list[Faces]:
        """Return the faces of each picture (h, w, 3), in its pixels."""


class NoDetector:
    """Takes each picture for one face: the box is the whole picture, landmarks and score are unknown."""

    record_name = "none"
    sha256 = ""

    def detect(self, pictures: Sequence[Picture]) -> list[Faces]:
        """Return one face a picture."""
        return [_whole_picture(picture) for picture in pictures]


class NetDetector:
    """Brings pictures to the detection size, looks, and once more, closer, where nothing was found."""

    def __init__(
        self, record: ModelRecord, look: Look, pictures: int, detect_size: int | None, second_look: bool
    ) -> None:
        assert record.weights is not None  # only the detector `none` has none
        self.record_name = record.name
        self.sha256 = record.weights.sha256
        self._look = look
        self._pictures = pictures
        self._interpolation = INTERPOLATION[record.input.interpolation]
        sizes = [size for size in (detect_size, min(look.fixed) if look.fixed else None) if size is not None]
        self._detect_size = min(sizes, default=None)
        self._second_look = second_look

    def detect(self, pictures: Sequence[Picture]) -> list[Faces]:
        """Return the faces of each picture; see `Detector`."""
        found = self._seen(pictures, lambda picture: views.whole(picture, self._detect_size, self._interpolation))
        if not self._second_look:
            return found
        empty = [number for number, faces in enumerate(found) if not len(faces)]
        again = self._seen(
            [pictures[number] for number in empty],
            lambda picture: views.padded(picture, SECOND_SIDE, SECOND_MARGIN),
        )
        for number, faces in zip(empty, again, strict=True):
            found[number] = faces
        return found

    def _seen(self, pictures: Sequence[Picture], view: Callable[[Picture], views.View]) -> list[Faces]:
        found: list[Faces] = []
        # A few at a time: on a CPU a view is used while it is in the cache, and a long batch's are not all in memory.
        step = 1 if self._pictures == 1 else 4 * self._pictures
        for at in range(0, len(pictures), step):
            seen = [view(picture) for picture in pictures[at : at + step]]
            found += [each.back(faces) for each, faces in zip(seen, self._look([v.pixels for v in seen]), strict=True)]
        return found


def load_detector(
    name_or_path: str | Path,
    device: Device,
    *,
    detect_size: int | None = 640,
    threshold: float | None = None,
    second_look: bool = True,
) -> Detector:
    """Return a detector whose golden outputs were checked.

    `detect_size`: pictures are brought to at most this longer side, in pixels, before the net sees them (None: as they
    are). `threshold`: the lowest score kept (None: the record's). `second_look`: where nothing was found, look at a
    small padded copy too; frames of videos gain no ghosts by it, because the copy is small.
    Raises UsageError for a bad record or missing weights, RunError where the golden outputs differ.
    """
    record = load_record(name_or_path)
    if record.kind != "detector":
        raise UsageError(f"model {record.name!r} is of kind {record.kind!r}, expected a detector")
    if detect_size is not None and detect_size < 1:
        raise UsageError(f"detection size: expected at least 1 pixel, got {detect_size}")
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"detection threshold: expected a number between 0 and 1, got {threshold:g}")
    if record.family == "none":
        return NoDetector()
    path = weights.pull(record)
    assert record.detection is not None  # as with weights
    look = _opened(record, path, device)
    golden.check_detector(record, NetDetector(record, look(record.detection.threshold), 1, None, False).detect, device)
    return NetDetector(record, look(threshold or record.detection.threshold), device.pictures, detect_size, second_look)


def _opened(record: ModelRecord, path: Path, device: Device) -> Callable[[float], Look]:
    """Open the record's nets; return what makes a look of them with a threshold."""
    if record.family == "mtcnn":
        nets = _mtcnn_nets(record, path, device)
        return lambda threshold: Mtcnn(record, nets, threshold)
    if record.family == "yunet":
        graph = graphs.cached("yunet", record, lambda: graphs.yunet(path, record.input))
        net = Net(graph, device, device.pictures)
        return lambda threshold: Yunet(record, net, threshold)
    net = Net(path, device, device.pictures)
    return lambda threshold: BoxNet(record, net, threshold)


def _mtcnn_nets(record: ModelRecord, path: Path, device: Device) -> dict[str, Net]:
    nets = {}
    for name, build in (("pnet", graphs.pnet), ("rnet", graphs.rnet), ("onet", graphs.onet)):
        graph = graphs.cached(name, record, lambda build=build: build(path, record.input))  # type: ignore[misc]
        nets[name] = Net(graph, device, device.crops)
    return nets


def _whole_picture(picture: Picture) -> Faces:
    height, width = picture.shape[:2]
    unknown = np.full((1, 5, 2), np.nan, np.float32)
    return Faces(np.array([[0, 0, width, height]], np.float32), unknown, np.full(1, np.nan, np.float32))
