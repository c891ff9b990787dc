"""Average precision is COCO's, and recall is told by size."""

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from validation import detection as module
from validation.detection import Boxes, detection, recall_by_size


def some_boxes(seed: int, pictures: int = 12) -> tuple[Boxes, Boxes]:
    """Return boxes of the truth, some of them regions to ignore, and ours: shifted, dropped, doubled, invented."""
    random = np.random.default_rng(seed)
    theirs, ours = [], []
    for picture in range(pictures):
        for _ in range(random.integers(0, 6)):
            box = np.array([*random.uniform(0, 300, 2), *random.uniform(10, 90, 2)])
            theirs.append((picture, box, float(random.random() < 0.9)))
            shifts = random.normal(0, 4, (random.integers(0, 3), 4)).round(1)
            ours.extend((picture, box + shift, round(random.random(), 1)) for shift in shifts)  # scores with ties
        if random.random() < 0.5:
            ours.append((picture, np.array([400.0, 400, 20, 20]), round(random.random(), 1)))
    return boxes(theirs), boxes(ours)


def boxes(rows: list[tuple[int, Any, float]]) -> Boxes:
    """Return rows of picture, box and mark as boxes."""
    picture, box, mark = zip(*rows, strict=True) if rows else ((), (), ())
    return Boxes(np.array(picture, int), np.array(box, float).reshape(-1, 4), np.array(mark, float))


def reference(truth: Boxes, ours: Boxes, pictures: int) -> tuple[float, float]:
    """Return AP and AP50 as pycocotools computes them from end to end."""
    images = [{"id": number} for number in range(pictures)]
    common = {"images": images, "categories": [{"id": 1}]}
    with redirect_stdout(io.StringIO()):
        sides = []
        for given, names in ((truth, ("iscrowd",)), (ours, ("score",))):
            rows = enumerate(zip(given.picture.tolist(), given.box.tolist(), given.mark.tolist(), strict=True), 1)
            made = COCO()
            made.dataset = common | {
                "annotations": [
                    {
                        "id": number,
                        "image_id": picture,
                        "category_id": 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": int("iscrowd" in names and not mark),
                        "score": mark,
                    }
                    for number, (picture, box, mark) in rows
                ]
            }
            made.createIndex()
            sides.append(made)
        evaluation = COCOeval(*sides, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_pycocotools(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the sixth place, with crowds, ties and doubles, and however few pictures it holds at once."""
    truth, ours = some_boxes(seed)
    expected = reference(truth, ours, 12)
    for chunk in (5_000, 5):
        monkeypatch.setattr(module, "_CHUNK_PICTURES", chunk)
        told = detection(truth, ours, 12)
        assert (told["ap"], told["ap50"]) == pytest.approx(expected, abs=1e-6)
    assert 0 < told["ap"] < told["ap50"] < 1


@pytest.mark.parametrize("seed", range(4))
def test_intervals_hold_their_figures_and_hardly_change_with_their_steps(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the steps moves their ends by less than a hundredth."""
    truth, ours = some_boxes(seed, 150)
    told = detection(truth, ours, 150)
    for name in ("ap", "ap50"):
        assert told[f"{name}_low"] < told[name] < told[f"{name}_high"]
    monkeypatch.setattr(module, "_STEPS", len(ours.picture) // 10)
    assert list(detection(truth, ours, 150).values()) == pytest.approx(list(told.values()), abs=0.01)


def test_all_found_is_one_and_nothing_found_is_zero() -> None:
    """Boxes that are none, of either side, are no error."""
    truth = boxes([(0, [0, 0, 10, 10], 1.0), (2, [5, 5, 20, 20], 1.0)])
    assert detection(truth, truth, 3) == dict.fromkeys(
        ("ap", "ap_low", "ap_high", "ap50", "ap50_low", "ap50_high"), 1.0
    )
    assert detection(truth, boxes([]), 3)["ap"] == 0
    assert detection(boxes([(0, [0, 0, 10, 10], 0.0)]), truth, 3)["ap"] is None  # nothing is to be found


def test_a_box_on_a_region_to_ignore_is_neither_hit_nor_miss() -> None:
    """The invented one beside it is a miss."""
    truth = boxes([(0, [0, 0, 10, 10], 1.0), (0, [100, 100, 50, 50], 0.0)])
    on_region, beside = (0, [110, 110, 10, 10], 0.9), (0, [200, 200, 10, 10], 0.9)
    assert detection(truth, boxes([on_region, (0, [0, 0, 10, 10], 0.5)]), 1)["ap"] == 1
    assert detection(truth, boxes([beside, (0, [0, 0, 10, 10], 0.5)]), 1)["ap"] == pytest.approx(0.5, abs=1e-6)


def test_recall_is_told_by_the_longer_side() -> None:
    """A bin begins with its lower end."""
    told = recall_by_size(np.array([3.0, 15.9, 16, 40, 64, 128, 5000]), np.array([0, 1, 1, 0, 1, 1, 1]))
    assert [(one["from_px"], one["to_px"], one["truth"], one["found"]) for one in told] == [
        (0, 16, 2, 1),
        (16, 32, 1, 1),
        (32, 64, 1, 0),
        (64, 128, 1, 1),
        (128, None, 2, 2),
    ]
