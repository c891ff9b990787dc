"""Pictures, clips and crops composed from the built-in portrait: the same ones on every machine, made once.

Each is distinct: heads at drawn places, in drawn sizes and light, before a part of the portrait without a face, under
the noise of a sensor, so that a JPEG or a frame has as much to decode as a camera's.
"""

import hashlib
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from pipelines.samples import HEAD, portrait
from tests.benchmarks.inputs import SEED, Pixels, encoded, framed

VERSION = 1
"""Counts up when other pixels are made: then older folders are not taken."""

FULL_HD = (1920, 1080)
GOP = 60
RATE = 30

_SUIT = 230
"""The portrait's first row without skin."""

_NOISE_LEVELS = 3.0
"""Standard deviation of the noise, of 255 levels."""

_SHAKE_PX, _SHIFT_PX = 16, 64

_STILL, _CLIP, _CROP = range(3)


@dataclass(frozen=True)
class Scene:
    """Heads (h, w, 3) uint8 BGR before a background, each at a place that moves by its speed, in pixels and a frame.

    The background is `_SHAKE_PX` larger than the picture on each side, for a camera that is held in a hand.
    """

    background: Pixels
    heads: tuple[Pixels, ...]
    places: NDArray[np.float64]
    speeds: NDArray[np.float64]

    def at(self, frame: int, noise: "Noise") -> Pixels:
        """Return a frame; a head that reaches an edge turns back."""
        height, width = (side - 2 * _SHAKE_PX for side in self.background.shape[:2])
        down, right = (round(_SHAKE_PX * (1 + math.sin(frame / period))) for period in (11, 17))
        canvas = self.background[down : down + height, right : right + width].copy()
        for head, place, speed in zip(self.heads, self.places, self.speeds, strict=True):
            room = (width - head.shape[1], height - head.shape[0])
            left, top = (_bounced(p + s * frame, r) for p, s, r in zip(place, speed, room, strict=True))
            canvas[top : top + head.shape[0], left : left + head.shape[1]] = head
        return noise.on(canvas)


class Noise:
    """A sensor's noise, of which each picture gets another part."""

    def __init__(self, chance: random.Random, width: int, height: int) -> None:
        self._chance = chance
        draw = np.random.default_rng(chance.getrandbits(64))
        shape = (height + _SHIFT_PX, width + _SHIFT_PX, 1)
        # The same grain for three colours, as a camera's own denoising leaves it.
        grain = (draw.standard_normal(shape, np.float32) * _NOISE_LEVELS).astype(np.int16)
        self._grain = np.repeat(grain, 3, axis=2)

    def on(self, picture: Pixels) -> Pixels:
        """Return the picture with noise."""
        height, width = picture.shape[:2]
        top, left = (self._chance.randrange(_SHIFT_PX) for _ in range(2))
        part = self._grain[top : top + height, left : left + width]
        return np.asarray(cv2.add(picture, part, dtype=cv2.CV_8U), np.uint8)


def scene(chance: random.Random, width: int, height: int, heads: int = 2) -> Scene:
    """Return a scene in which each head has a column of its own; a head is 35 to 75 % as high as the picture."""
    original = _portrait()
    x, y, w, h = HEAD
    shown = original[y : y + h, x : x + w]
    column = width / heads
    cut, places, speeds = [], [], []
    for number in range(heads):
        scale = min(height * chance.uniform(0.35, 0.75) / h, 0.9 * column / w)
        head = cv2.resize(
            shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        if chance.random() < 0.5:
            head = head[:, ::-1]
        cut.append(_lit(np.asarray(head, np.uint8), chance))
        places.append((number * column + chance.uniform(0, column - w * scale), chance.uniform(0, height - h * scale)))
        speeds.append([chance.uniform(-0.002, 0.002) * side for side in (width, height)])
    cloth = original[_SUIT:, :: chance.choice((-1, 1))]
    part = cloth[chance.randrange(40) :, chance.randrange(120) :]
    large = framed(part, width + 2 * _SHAKE_PX, height + 2 * _SHAKE_PX)
    return Scene(_lit(large, chance), tuple(cut), np.array(places), np.array(speeds))


@cache
def _portrait() -> Pixels:
    return np.ascontiguousarray(portrait()[:, :, ::-1])


def pictures(count: int, width: int, height: int) -> tuple[str, Path]:
    """Return what the pictures are, in words, and a folder of `count` distinct JPEG files with two heads each."""

    def make(number: int, path: Path) -> None:
        chance = _chance(_STILL, number)
        path.with_suffix(".jpg").write_bytes(encoded(scene(chance, width, height).at(0, Noise(chance, width, height))))

    told = f"{count} distinct JPEG pictures of {width}x{height}, two heads each, composed from the built-in portrait"
    return told, _made(told, count, make)


def crops(count: int) -> tuple[str, Path]:
    """Return what the pictures are, in words, and a folder of `count` distinct gray 48x48 PNG files, a face each."""

    def make(number: int, path: Path) -> None:
        chance = _chance(_CROP, number)
        (head,) = scene(chance, 96, 96, heads=1).heads
        size = chance.randint(60, 80)
        face = np.asarray(cv2.resize(head, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        left, top = (chance.randint(0, size - 48) for _ in range(2))
        gray = cv2.cvtColor(Noise(chance, size, size).on(face), cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(path.with_suffix(".png")), gray[top : top + 48, left : left + 48])

    told = f"{count} distinct gray PNG pictures of 48x48, a face each, cut from heads of the built-in portrait"
    return told, _made(told, count, make)


def clips(count: int, frames: int) -> tuple[str, Path]:
    """Return what the clips are, in words, and a folder of `count` distinct 1080p h264 clips of `frames` frames."""

    def make(number: int, path: Path) -> None:
        chance = _chance(_CLIP, number)
        moving, noise = scene(chance, *FULL_HD), Noise(chance, *FULL_HD)
        _write(path.with_suffix(".mp4"), (moving.at(frame, noise) for frame in range(frames)))

    told = (
        f"{count} h264 clips of {frames} frames, 1920x1080 at {RATE}/s, key frames {GOP} apart, B-frames as x264 sets "
        "them, two moving heads each, composed from the built-in portrait"
    )
    return told, _made(told, count, make)


def repeated(clip: Path, times: int) -> tuple[str, Path]:
    """Return what it is, in words, and a folder with one clip that shows `clip` so many times over."""

    def make(_: int, path: Path) -> None:
        with av.open(str(clip)) as source, av.open(str(path.with_suffix(".mp4")), "w") as target:
            stream = source.streams.video[0]
            copied = target.add_stream_from_template(stream)
            packets = [packet for packet in source.demux(stream) if packet.size]
            # Frames last equally long, so the lasting of one shifts the next showing behind the last frame.
            assert all(packet.pts is not None and packet.dts is not None for packet in packets)
            whole = sum(packet.duration or 0 for packet in packets)
            for turn in range(times):
                for packet in packets:
                    again = Packet(bytes(packet))
                    again.stream, again.time_base = copied, packet.time_base
                    again.pts, again.dts = (at + turn * whole for at in (packet.pts or 0, packet.dts or 0))
                    again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                    target.mux(again)

    told = f"one 1080p h264 clip, {clip.parent.name}/{clip.name} shown {times} times over"
    return told, _made(told, 1, make)


def _write(path: Path, frames: Iterator[Pixels]) -> None:
    with av.open(str(path), "w") as container:
        # Scene cuts would add key frames; one thread a clip gives the same bytes on any number of cores.
        options = {"g": str(GOP), "sc_threshold": "0", "threads": "1", "preset": "veryfast", "crf": "19"}
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        stream.width, stream.height = FULL_HD
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))


def _chance(kind: int, number: int) -> random.Random:
    return random.Random(SEED * 1_000_003 + kind * 100_003 + number)


def _lit(picture: Pixels, chance: random.Random) -> Pixels:
    """Return the picture in another light, the same for all of it."""
    return np.asarray(
        cv2.convertScaleAbs(picture, alpha=chance.uniform(0.8, 1.1), beta=chance.uniform(-10, 15)), np.uint8
    )


def _bounced(at: float, room: int) -> int:
    """Return a place in 0..`room`, for one that goes on for ever."""
    if room <= 0:
        return 0
    folded = at % (2 * room)
    return int(min(folded, 2 * room - folded))


def _made(told: str, count: int, make: Callable[[int, Path], None]) -> Path:
    """Return the folder in which `make` has made files 0..`count`, each given its path without an ending."""
    name = hashlib.sha256(f"{VERSION} {SEED} {told}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / "labelstream-bench" / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda number: make(number, unfinished / f"{number:05d}"), range(count)))
    distinct = len({hashlib.sha256(path.read_bytes()).digest() for path in unfinished.iterdir()})
    if distinct != count:
        shutil.rmtree(unfinished)
        raise SystemExit(f"{count - distinct} of {count} made files are alike: another SEED is needed")
    unfinished.rename(folder)
    return folder
