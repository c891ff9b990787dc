"""The built-in samples: a public-domain portrait, and scenes composed from it whose faces have known places.

The portrait is NASA's photograph of Eileen Collins, which comes with scikit-image as `data/astronaut.png`.
"""

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import RunError

FACE = (177, 58, 92, 126)
"""The portrait's face: x, y, width, height in pixels of its 512 x 512."""

HEAD = (136, 12, 176, 196)
"""The part of the portrait that is pasted into scenes: head and neck."""

_MADE = 1_767_225_600
"""The samples' file time, 2026-01-01 UTC: a fixed one, so that their rows are the same wherever they are made."""

_BACKGROUNDS = ((196, 205, 214), (120, 146, 120), (222, 214, 198))


@dataclass(frozen=True)
class Scene:
    """A composed picture: `rgb` (h, w, 3) uint8, and its faces' boxes as (x, y, w, h) in pixels."""

    name: str
    rgb: NDArray[np.uint8]
    faces: tuple[tuple[float, float, float, float], ...]


def portrait() -> NDArray[np.uint8]:
    """Return the portrait, (512, 512, 3) uint8 RGB."""
    package = importlib.util.find_spec("skimage")
    path = Path(package.origin).parent / "data" / "astronaut.png" if package and package.origin else None
    picture = cv2.imread(str(path)) if path and path.is_file() else None
    if picture is None:
        raise RunError(
            "the built-in sample is missing: expected scikit-image with data/astronaut.png; run make install"
        )
    return np.ascontiguousarray(picture[:, :, ::-1])


def compose(name: str, size: tuple[int, int], places: list[tuple[int, int, float]], background: int) -> Scene:
    """Return a scene of `size` (width, height) with heads at `places`: left, top, and scale of each."""
    width, height = size
    shade = np.linspace(0.85, 1.1, height)[:, None, None]
    canvas = np.clip(np.array(_BACKGROUNDS[background]) * shade * np.ones((1, width, 1)), 0, 255).astype(np.uint8)
    x, y, w, h = HEAD
    head = portrait()[y : y + h, x : x + w]
    faces = []
    for left, top, scale in places:
        pasted = cv2.resize(
            head, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        canvas[top : top + pasted.shape[0], left : left + pasted.shape[1]] = pasted
        fx, fy, fw, fh = FACE
        faces.append((left + (fx - x) * scale, top + (fy - y) * scale, fw * scale, fh * scale))
    return Scene(name, canvas, tuple(faces))


def scenes() -> list[Scene]:
    """Return the built-in samples: the portrait, one, two and five heads at known places, and a picture without."""
    whole = Scene("portrait.png", portrait(), (tuple(float(v) for v in FACE),))  # type: ignore[arg-type]
    return [
        whole,
        compose("one.jpg", (640, 480), [(220, 120, 1.2)], 0),
        compose("two.jpg", (960, 540), [(90, 140, 1.5), (560, 200, 1.0)], 1),
        compose(
            "group.jpg",
            (1280, 720),
            [(40, 80, 0.8), (260, 300, 1.3), (560, 60, 1.0), (800, 380, 1.5), (1090, 120, 0.6)],
            2,
        ),
        compose("nobody.jpg", (640, 480), [], 1),
    ]


def walk(frames: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a film, (360, 640, 3) uint8 RGB: a head crosses the picture and leaves it."""
    for number in range(frames):
        left = round(20 + 640 * number / frames)
        yield compose("frame", (640, 360), [(left, 70, 1.0)] if left < 464 else [], 0).rgb


def write_film(path: Path, frames: Iterable[NDArray[np.uint8]], rate: int, **options: str) -> Path:
    """Write RGB frames of one size as an MP4 at `rate` frames a second; `options` are the encoder's."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"g": "12", "qscale": "3", **options})
        for number, rgb in enumerate(frames):
            if number == 0:
                stream.height, stream.width = rgb.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode())
    return path


def write_samples(folder: Path) -> Path:
    """Write the samples, and a film of two seconds, into `folder`, once; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], object]] = {scene.name: partial(_write_scene, scene.rgb) for scene in scenes()}
    writers["walk.mp4"] = lambda path: write_film(path, walk(24), 12)
    for name, write in writers.items():
        path = folder / name
        if not path.exists():
            # A name of its own until it is whole: another process may look, and this one may be killed.
            unfinished = folder / f".{os.getpid()}-{name}"
            write(unfinished)
            os.utime(unfinished, (_MADE, _MADE))
            unfinished.replace(path)
    return folder


def _write_scene(rgb: NDArray[np.uint8], path: Path) -> None:
    cv2.imwrite(str(path), rgb[:, :, ::-1])
