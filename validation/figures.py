"""Two pictures of an evaluation as PNG: the confusion of labels, and how reliable the confidence is."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_SCALE = 2
"""Drawn at twice the size, for sharp text on any screen."""

_INK, _FAINT, _PAPER = (32, 33, 36), (200, 204, 209), (255, 255, 255)
_BLUE, _ORANGE = (33, 102, 172), (214, 96, 77)

_CELL, _LEFT, _TOP = 58, 96, 66
_MOST_LABELS = 40
"""More classes than fit on a page: a picture of this many is 2,500 px wide, at twice the size 5,000."""

Point = tuple[float, float]
Colour = tuple[int, int, int]


class _Sheet:
    """A white sheet with a coordinate system in points; text is anchored as Pillow has it ("mm": by its middle)."""

    def __init__(self, width: float, height: float) -> None:
        self._image = Image.new("RGB", (round(width * _SCALE), round(height * _SCALE)), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def text(self, at: Point, text: str, anchor: str = "mm", size: float = 12, ink: Colour = _INK) -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((at[0] * _SCALE, at[1] * _SCALE), text, fill=ink, font=font, anchor=anchor)

    def box(self, start: Point, end: Point, fill: Colour | None, outline: Colour | None = None) -> None:
        corners = [start[0] * _SCALE, start[1] * _SCALE, end[0] * _SCALE, end[1] * _SCALE]
        self._draw.rectangle(corners, fill=fill, outline=outline, width=_SCALE)

    def line(self, start: Point, end: Point, ink: Colour, width: float = 1) -> None:
        places = [start[0] * _SCALE, start[1] * _SCALE, end[0] * _SCALE, end[1] * _SCALE]
        self._draw.line(places, fill=ink, width=round(width * _SCALE))

    def png(self) -> bytes:
        out = BytesIO()
        self._image.save(out, "PNG", optimize=True)
        return out.getvalue()


def draw_confusion(labels: Sequence[str], counts: Sequence[Sequence[int]], missed: Sequence[int]) -> bytes:
    """Return the confusion with a row a class of the truth; a cell is shaded by its share of the row.

    `missed` are the faces of each row that have no label. Only the first 40 classes are drawn.
    """
    labels = labels[:_MOST_LABELS]
    side = len(labels) * _CELL
    sheet = _Sheet(_LEFT + side + _CELL + 24, _TOP + side + 40)
    sheet.text((_LEFT + side / 2, 20), "what the data set says", size=13)
    sheet.text((_LEFT - 10, _TOP - 18), "the truth", "rm", size=13)
    for column, label in enumerate((*labels, "missed")):
        at = _LEFT + column * _CELL + _CELL / 2 + (10 if column == len(labels) else 0)
        sheet.text((at, _TOP - 18), _short(label, 9), size=11)
    for row, label in enumerate(labels):
        middle = _TOP + row * _CELL + _CELL / 2
        sheet.text((_LEFT - 10, middle), _short(label, 13), "rm")
        total = sum(counts[row]) + missed[row]
        for column, count in enumerate((*counts[row][: len(labels)], missed[row])):
            left = _LEFT + column * _CELL + (10 if column == len(labels) else 0)
            share = count / total if total else 0.0
            own = _BLUE if column == row else _ORANGE
            sheet.box((left, middle - _CELL / 2), (left + _CELL, middle + _CELL / 2), _mixed(own, share), _FAINT)
            if count:
                ink = _PAPER if share > 0.55 and column == row else _INK
                sheet.text((left + _CELL / 2, middle - 8), f"{count:,}", ink=ink)
                sheet.text((left + _CELL / 2, middle + 9), f"{share:.0%}", size=10, ink=ink)
    sheet.text((_LEFT, _TOP + side + 20), "% of the row, missed faces included", "lm", size=11)
    return sheet.png()


def draw_reliability(bins: Sequence[Mapping[str, Any]], ece: float | None) -> bytes:
    """Return the accuracy of each bin of confidence, its gap to the confidence, and below how many faces it holds."""
    left, top, side, below = 62.0, 64.0, 380.0, 84.0
    sheet = _Sheet(left + side + 28, top + side + below + 74)
    error = "no confidences" if ece is None else f"calibration error {ece:.3f}"
    sheet.text((left + side / 2, 16), error, size=13)
    sheet.text((left + side / 2, 33), "black: accuracy; orange: its distance from the mean confidence", size=10)
    base, floor = top + side, top + side + 22 + below
    most = max((one["count"] for one in bins), default=0)
    for one in bins:
        start, end = left + one["low"] * side + 1, left + one["high"] * side - 1
        sheet.box((start, floor - below * one["count"] / max(most, 1)), (end, floor), _mixed(_BLUE, 0.45))
        if one["count"]:
            right, sure = (base - one[name] * side for name in ("accuracy", "confidence"))
            sheet.box((start, right), (end, base), _mixed(_BLUE, 0.75))
            sheet.box((start, min(right, sure)), (end, max(right, sure)), _mixed(_ORANGE, 0.6))
            sheet.line((start, right), (end, right), _INK, 2)
    sheet.line((left, base), (left + side, top), _INK)
    sheet.box((left, top), (left + side, base), None, _FAINT)
    sheet.line((left, floor), (left + side, floor), _FAINT)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        sheet.text((left - 8, base - tick * side), f"{tick:g}", "rm", size=11)
        sheet.text((left + tick * side, floor + 14), f"{tick:g}", size=11)
    sheet.text((left - 8, top - 14), "accuracy", "lm", size=11)
    sheet.text((left - 8, floor - below + 6), f"{most:,}", "rm", size=11)
    sheet.text((left + side / 2, floor + 34), "confidence; below: faces in each bin", size=11)
    return sheet.png()


def _mixed(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(255 + (part - 255) * share) for part in colour)
    return red, green, blue


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
