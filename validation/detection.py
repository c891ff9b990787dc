"""How well faces are found: COCO's average precision, and recall by size.

pycocotools decides which box is a hit; the averaging is repeated here so that pictures can be weighted, for intervals.
All faces are of one class, and 100 boxes of a picture count, as COCO has it.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO  # type: ignore[import-untyped,unused-ignore]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped,unused-ignore]

from validation.resampling import Block, Blocks, Floats, Ints, Sums, counted, told

SIZES_PX = (0, 16, 32, 64, 128)
"""Where the bins of a face's longer side begin."""

MOST_BOXES = 100
"""Boxes of a picture that count, best first: COCO's own limit."""

_CHUNK_PICTURES = 5_000
"""Pictures that pycocotools holds at once: some 20 MB of Python objects."""

_STEPS = 10_000
"""Steps of the ranked boxes from which intervals are computed; each box is its own where there are no more."""

_EPSILON = np.spacing(1)
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Boxes:
    """Boxes (n, 4), x, y, w, h in pixels, of pictures that are numbered from 0, in their order.

    `mark` (n,): of the truth 1 where a box is a face to find and 0 where it may be found or not; of ours the score.
    """

    picture: Ints
    box: Floats
    mark: Floats


@dataclass(frozen=True)
class _Ranked:
    """Our boxes, best first: their pictures (n,), and whether they hit or are ignored at each threshold (10, n)."""

    picture: Ints
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


def detection(truth: Boxes, ours: Boxes, pictures: int) -> dict[str, Any]:
    """Return AP@[.5:.95] and AP50 with their intervals, as evaluation.json holds them."""
    ranked = _ranked(truth, ours, pictures)
    faces = truth.picture[truth.mark > 0]
    boxes = np.ones(len(ranked.picture))
    exact = _figures({"faces": np.array([len(faces)]), "boxes": boxes, "hit": ranked.hit, "ignored": ranked.ignored})
    around = _sums(ranked, faces, pictures).bootstrap(_figures_of_changes)
    found: dict[str, Any] = {}
    for name, value, interval in zip(("ap", "ap50"), exact, around, strict=True):
        low, high = min(interval.low, value), max(interval.high, value)
        found |= {name: told(value), f"{name}_low": told(low), f"{name}_high": told(high)}
    return found


def recall_by_size(longer_side: Floats, found: Ints) -> list[dict[str, Any]]:
    """Return how many faces of the truth there are in each bin of SIZES_PX and how many of them were found."""
    place = np.searchsorted(SIZES_PX, longer_side, side="right") - 1
    all_, hits = (np.bincount(place, weights, minlength=len(SIZES_PX)) for weights in (None, found))
    ends = (*SIZES_PX[1:], None)
    return [
        {"from_px": start, "to_px": end, "truth": int(faces), "found": int(hit)}
        for start, end, faces, hit in zip(SIZES_PX, ends, all_, hits, strict=True)
    ]


def _sums(ranked: _Ranked, faces: Ints, pictures: int) -> Sums:
    """Return the faces to find, the boxes by step, and by threshold and step how many more hit, and are ignored."""
    boxes = len(ranked.picture)
    steps = max(1, min(boxes, _STEPS))
    step = np.arange(boxes) * steps // max(1, boxes)
    blocks = {
        "faces": counted((1,), faces, np.zeros(len(faces), int)),
        "boxes": counted((steps,), ranked.picture, step),
    }
    for name, which in (("hit", ranked.hit), ("ignored", ranked.ignored)):
        change = np.diff(which.astype(np.int8), axis=0, prepend=0)  # few boxes hit at one threshold and not at the next
        threshold, box = np.nonzero(change)
        cell, amount = threshold * steps + step[box], change[threshold, box].astype(float)
        blocks[name] = Block((len(which), steps), ranked.picture[box], cell, amount)
    return Sums(pictures, blocks)


def _figures_of_changes(sums: Blocks) -> Floats:
    return _figures(sums | {name: np.cumsum(sums[name], axis=0) for name in ("hit", "ignored")})


def _figures(sums: Mapping[str, NDArray[Any]]) -> Floats:
    """Return AP@[.5:.95] and AP50, averaged as COCO does: the best precision at 101 recalls or above."""
    faces = sums["faces"][0]
    if not faces:
        return np.full(2, np.nan)
    averages = []
    for hit, ignored in zip(sums["hit"], sums["ignored"], strict=True):
        hits = np.cumsum(hit)
        precision = hits / (np.cumsum(sums["boxes"] - ignored) + _EPSILON)
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        averages.append(best[np.searchsorted(hits / faces, _RECALLS, side="left")].mean())
    return np.array([np.mean(averages), averages[0]])


def _ranked(truth: Boxes, ours: Boxes, pictures: int) -> _Ranked:
    parts = list(_matched(truth, ours, pictures))
    picture, score = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    hit, ignored = (np.hstack([part[at] for part in parts]) for at in (2, 3))
    order = np.argsort(-score, kind="mergesort")  # as COCO sorts: equal scores stay in the pictures' order
    hit, ignored = hit[:, order], ignored[:, order]
    return _Ranked(picture[order], hit & ~ignored, ignored)


def _matched(truth: Boxes, ours: Boxes, pictures: int) -> Iterator[tuple[Any, ...]]:
    """Return for some pictures at a time: those of our boxes, scores, and which hit and which are ignored (10, n)."""
    none = np.zeros((10, 0), bool)
    yield np.zeros(0, int), np.zeros(0), none, none
    for start in range(0, pictures, _CHUNK_PICTURES):
        which = range(start, min(start + _CHUNK_PICTURES, pictures))
        with redirect_stdout(io.StringIO()):  # it tells its progress
            evaluation = COCOeval(_coco(truth, which, "iscrowd"), _coco(ours, which, "score"), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = [MOST_BOXES]
            evaluation.evaluate()
        found = [one for one in evaluation.evalImgs if one is not None]
        if found:
            counts = [len(one["dtScores"]) for one in found]
            picture = np.repeat([one["image_id"] for one in found], counts)
            scores = np.concatenate([one["dtScores"] for one in found])
            hits, ignored = (np.hstack([one[name] for one in found]) > 0 for name in ("dtMatches", "dtIgnore"))
            yield picture, scores, hits, ignored


def _coco(boxes: Boxes, pictures: range, mark: str) -> Any:
    """Return the boxes of some pictures as pycocotools holds them; ids count from 1, because 0 is no match to it."""
    start, end = np.searchsorted(boxes.picture, (pictures.start, pictures.stop))
    rows = zip(
        boxes.picture[start:end].tolist(), boxes.box[start:end].tolist(), boxes.mark[start:end].tolist(), strict=True
    )
    annotations = [
        {
            "id": number,
            "image_id": picture,
            "category_id": 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(mark == "iscrowd" and not value),
            "score": value,
        }
        for number, (picture, box, value) in enumerate(rows, 1)
    ]
    made = COCO()
    made.dataset = {
        "images": [{"id": number} for number in pictures],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    made.createIndex()
    return made
