"""Rows of a cleaned data set: labels that came in, of anything, with no model behind them."""

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT = 640, 480


def thing(
    box: Sequence[float] = (10, 20, 100, 120), label: str | None = "cat", confidence: float | None = None, **others: Any
) -> dict[str, Any]:
    """Return a label for a box [x, y, w, h] in pixels of a picture of WIDTH x HEIGHT."""
    x, y, w, h = box
    shares = ((x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT)
    pixels = dict(zip(("bbox_x", "bbox_y", "bbox_w", "bbox_h"), box, strict=True))
    return part(shares, label, confidence, **pixels, **others)


def part(
    shares: Sequence[float], label: str | None = "cat", confidence: float | None = None, **others: Any
) -> dict[str, Any]:
    """Return a label for a box [cx, cy, w, h] of 1, in a picture of unknown size unless pixels are among `others`."""
    return {**whole(label, confidence), **dict(zip(("cx", "cy", "w", "h"), shares, strict=True)), **others}


def whole(label: str | None = "cat", confidence: float | None = None, **others: Any) -> dict[str, Any]:
    """Return a label of the whole picture."""
    return {"origin": "import", "label": label, "confidence": confidence, **others}


UNKNOWN: dict[str, Any] = {"width": None, "height": None, "sha256": None, "timestamp_ms": None}
"""What is not known of a picture that is not at hand."""
