"""Distinct pictures by the thousand, made once from a few photographs: the same ones on every machine."""

import hashlib
import os
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.samples import scenes
from schemas.errors import ItemError
from transforms.pictures import decode

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "images" / "face"
SEED = 20260101
_LEAST_SIDE_PX = 400
"""Photographs whose longer side is less are left out: enlarged to full HD they would be all blur."""

Pixels = NDArray[np.uint8]


def sources() -> tuple[str, list[Pixels]]:
    """Return the photographs, (h, w, 3) uint8 BGR, and in words where they are from."""
    files = sorted(PHOTOGRAPHS.glob("*")) if PHOTOGRAPHS.is_dir() else []
    distinct = {hashlib.sha256(path.read_bytes()).digest(): path for path in reversed(files)}
    read = [cv2.imread(str(path)) for path in sorted(distinct.values())]
    large = [np.asarray(picture, np.uint8) for picture in read if picture is not None]
    large = [picture for picture in large if max(picture.shape) >= _LEAST_SIDE_PX]
    if large:
        return f"{len(large)} photographs of ../shared/data/images/face", large
    composed = [np.ascontiguousarray(scene.rgb[:, :, ::-1]) for scene in scenes() if scene.faces]
    return f"{len(composed)} built-in samples", composed


def variants(count: int, least_side_px: int, most_side_px: int) -> tuple[str, Path]:
    """Return what the pictures are, in words, and a folder of `count` distinct JPEG files.

    Each is a photograph with up to a tenth cut off each edge, mirrored or not, its longer side drawn evenly from the
    range. The folder lies in the system's folder of temporary files and is made once.
    """
    told, originals = sources()
    told = f"{count} distinct JPEG variants (cut, mirrored, long side {least_side_px}..{most_side_px} px) of {told}"
    folder = (
        Path(tempfile.gettempdir()) / "labelstream-bench" / hashlib.sha256(f"1 {SEED} {told}".encode()).hexdigest()[:12]
    )
    if not folder.is_dir():
        _make(folder, originals, count, (least_side_px, most_side_px))
    return told, folder


def given(folder: Path, most: int) -> tuple[str, list[Path]]:
    """Return what the pictures are, in words, and at most `most` distinct whole JPEG and PNG files below `folder`.

    They are taken evenly from the sorted names. What is broken or a copy is left out: there tools differ in their task.
    """
    named = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    distinct = {hashlib.sha256(path.read_bytes()).digest(): path for path in reversed(named) if _is_whole(path)}
    files = sorted(distinct.values())
    if not files:
        raise SystemExit(f"--input {folder}: expected a folder with JPEG or PNG pictures, found none that is whole")
    taken = [files[number * len(files) // most] for number in range(most)] if len(files) > most else files
    return f"{len(taken)} of {len(named)} JPEG and PNG files of {folder.name}", taken


def _is_whole(path: Path) -> bool:
    try:
        decode(path.read_bytes())
    except ItemError:
        return False
    return cv2.imread(str(path)) is not None


def _make(folder: Path, originals: list[Pixels], count: int, sides_px: tuple[int, int]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))

    def make(number: int) -> bytes:
        chance = random.Random(SEED * 100_003 + number)
        jpeg = encoded(_variant(originals[number % len(originals)], chance, chance.randint(*sides_px)))
        (unfinished / f"{number:05d}.jpg").write_bytes(jpeg)
        return hashlib.sha256(jpeg).digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        distinct = len(set(pool.map(make, range(count))))
    if distinct != count:
        shutil.rmtree(unfinished)
        raise SystemExit(f"{count - distinct} of {count} variants are alike: another SEED is needed")
    unfinished.rename(folder)


def _variant(original: Pixels, chance: random.Random, side_px: int) -> Pixels:
    height, width = original.shape[:2]
    left, right = (int(width * chance.uniform(0, 0.1)) for _ in range(2))
    top, bottom = (int(height * chance.uniform(0, 0.1)) for _ in range(2))
    part = original[top : height - bottom, left : width - right]
    if chance.random() < 0.5:
        part = part[:, ::-1]
    return resized(part, side_px / max(part.shape[:2]))


def resized(picture: Pixels, scale: float) -> Pixels:
    """Return the picture with its sides multiplied by `scale`."""
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=how), np.uint8)


def framed(picture: Pixels, width: int, height: int) -> Pixels:
    """Return the picture's middle, filling `width` x `height` pixels."""
    large = resized(picture, max(width / picture.shape[1], height / picture.shape[0]) * 1.001)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return np.ascontiguousarray(large[top : top + height, left : left + width])


def encoded(picture: Pixels) -> bytes:
    """Return the picture, BGR, as a JPEG file as cameras and phones write it."""
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(jpeg.tobytes())
