"""What a run would do, how long it would take, how much disk it would need, and what is missing: nothing is written."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.configuration import Configuration
from pipelines.dataset import Dataset, is_dataset
from pipelines.planning import Planner
from schemas.errors import ItemError
from schemas.layout import MANIFESTS
from schemas.records import Faces, PlannedItem
from transforms.decode import reduce_to
from transforms.models.classifiers import Classifier
from transforms.models.detectors import Detector
from transforms.pictures import decode
from transforms.places import Place, Prefix
from transforms.source import Listing
from transforms.storage import read_bytes
from transforms.video import read_clip

_TRIED = 12
"""Items that are labelled to find out how long one takes."""

_BYTES_AN_ITEM = 1500
"""Tables and exports together, for a picture with a face: measured on 1,782 frames (2.4 MB) and 140 pictures."""

_OF_BARE = 0.9
"""The pipeline's rate over that of the models alone; see tests/benchmarks/results."""

_START_S = 4.0


@dataclass
class Work:
    """What is left to do: `tried` are the first items of it."""

    pictures: int = 0
    frames: int = 0
    videos: set[str] = field(default_factory=set)
    unreadable: int = 0
    bytes_read: int = 0
    tried: list[PlannedItem] = field(default_factory=list)

    @property
    def items(self) -> int:
        """How many items that is."""
        return self.pictures + self.frames


@contextmanager
def looked_at(output: Place) -> Iterator[Dataset]:
    """Give the data set at `output`, or an empty one elsewhere where there is none yet."""
    if is_dataset(output):
        yield Dataset(output)
        return
    with tempfile.TemporaryDirectory(prefix="labelstream-dry-run-") as folder:
        (Path(folder) / MANIFESTS).mkdir()
        yield Dataset(folder)


def survey(planner: Planner, limit: int | None) -> Work:
    """Return what a planner would plan, item by item: copies are told apart only by a run."""
    work = Work()
    for one in (one for group in planner.candidates for one in group):
        if limit is not None and work.items >= limit:
            break
        if one.clip is None:
            work.pictures += 1
            work.unreadable += one.ref.size <= 0
        else:
            work.frames += max(1, len(one.clip.pts))
            work.videos.add(one.ref.key)
            work.unreadable += bool(one.clip.error) and not one.clip.pts
        work.bytes_read += max(0, one.ref.size) if one.clip is None or one.clip.last else 0
        if len(work.tried) < _TRIED:
            work.tried.append(PlannedItem(one.ref, "", (), None, one.clip))
    return work


def tell(
    work: Work, listing: Listing, output: Place, configuration: Configuration, models: tuple[Detector, Classifier]
) -> list[str]:
    """Return what to say of the work."""
    seconds = _seconds_an_item(work.tried, configuration, *models)
    disk = work.items * _BYTES_AN_ITEM
    free = None if isinstance(output, Prefix) else shutil.disk_usage(_nearest_folder(output)).free
    there = "" if free is None else f", {_size(free)} are free at {output}"
    lines = [
        f"to do: {work.pictures:,} pictures and {work.frames:,} frames of {len(work.videos):,} videos, "
        f"{_size(work.bytes_read)} to read; {listing.skipped:,} files would be skipped",
        f"disk: about {_size(disk)} for tables and exports{there}",
    ]
    if seconds is None:
        lines.append("time: unknown, because none of the first items could be read" if work.items else "time: nothing")
    else:
        cores = os.cpu_count() or 1
        total = _START_S + work.items * seconds / cores / _OF_BARE
        lines.append(f"time: about {_duration(total)} on {cores} cores ({1000 * seconds:.0f} ms an item on one)")
    if work.unreadable:
        lines.append(f"missing: {work.unreadable:,} files cannot be opened and would be failed items")
    if free is not None and disk > free:
        lines.append("missing: disk space")
    if not isinstance(output, Prefix) and not os.access(_nearest_folder(output), os.W_OK):
        lines.append(f"missing: the right to write to {output}")
    return [*lines, "nothing was written: leave out --dry-run to do it"]


def _seconds_an_item(
    items: Sequence[PlannedItem], configuration: Configuration, detector: Detector, classifier: Classifier
) -> float | None:
    """Return what an item takes on one core: the mean of the first ones, after one to warm up."""
    took: list[float] = []
    for item in items:
        started = time.perf_counter()
        try:
            for rgb in _pixels(item, configuration):
                (faces,) = detector.detect([rgb])
                _label(classifier, rgb, faces.at_least(configuration.min_face))
                now = time.perf_counter()
                took.append(now - started)
                started = now
                if len(took) > _TRIED:
                    break
        except ItemError:
            continue
        if len(took) > _TRIED:
            break
    return float(np.mean(took[1:] or took)) if took else None


def _pixels(item: PlannedItem, configuration: Configuration) -> Iterator[NDArray[np.uint8]]:
    if item.clip is None:
        data = read_bytes(item.ref.uri, configuration.max_bytes)
        limits: dict[str, Any] = {"max_pixels": configuration.max_pixels}
        yield decode(data, reduce_to=reduce_to(configuration.detect_size), **limits).rgb
    else:
        frames = read_clip(item.ref.uri, item.clip, wanted=configuration.frames, max_pixels=configuration.max_pixels)
        yield from (frame.rgb for frame in frames)


def _label(classifier: Classifier, rgb: NDArray[np.uint8], faces: Faces) -> None:
    if len(faces):
        classifier.classify(classifier.crop(rgb, faces))


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
