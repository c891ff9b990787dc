"""Horizontal bars as SVG: text that is text, in colours that read on white and on black."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

OURS, OTHERS, TEXT = "#2f81f7", "#8c959f", "#707b87"
"""On GitHub's light and dark page the text's contrast is 4.3, the bars' at least 3; no background is drawn."""

_WIDTH, _NAMES, _FIGURES = 780, 350, 60
_ROW, _BAR, _TOP = 30, 18, 44
_LETTER = 7.6
"""Pixels a letter is wide at 13 px, or a little less."""


@dataclass(frozen=True)
class Bar:
    """One bar; `ours` is drawn in the colour that is looked at first."""

    name: str
    value: float
    ours: bool


def bars(title: str, rows: Sequence[Bar], notes: Sequence[str] = ()) -> str:
    """Return an SVG picture of the bars in the given order, their lengths in proportion to the largest value."""
    most = max(row.value for row in rows)
    room = _WIDTH - _NAMES - _FIGURES
    foot = _TOP + _ROW * len(rows)
    height = foot + 20 * len(notes) + 8
    told = "; ".join(f"{row.name}: {_figure(row.value)}" for row in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
        f' role="img" aria-label={quoteattr(f"{title}. {told}")}'
        " font-family=\"-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif\""
        f' font-size="13" fill="{TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="20" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        base = top + _BAR - 4
        length = max(1.0, room * row.value / most)
        weight = ' font-weight="600"' if row.ours else ""
        long = len(row.name) * _LETTER > _NAMES - 12
        squeezed = f' textLength="{_NAMES - 12}" lengthAdjust="spacingAndGlyphs"' if long else ""
        lines += [
            f'<text x="{_NAMES - 10}" y="{base}" text-anchor="end"{weight}{squeezed}>{escape(row.name)}</text>',
            f'<rect x="{_NAMES}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="3" '
            f'fill="{OURS if row.ours else OTHERS}"/>',
            f'<text x="{_NAMES + length + 8:.1f}" y="{base}"{weight}>{_figure(row.value)}</text>',
        ]
    lines += [
        f'<text x="0" y="{foot + 16 + 20 * number}" font-size="12">{escape(note)}</text>'
        for number, note in enumerate(notes)
    ]
    return "\n".join([*lines, "</svg>", ""])


def draw(path: Path, title: str, rows: Sequence[Bar], notes: Sequence[str] = ()) -> None:
    """Write the bars to a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(bars(title, rows, notes), encoding="utf-8")


def _figure(value: float) -> str:
    """Return the value with two figures that count, or all before the point.

    >>> [_figure(value) for value in (94.4, 5.25, 0.513)]
    ['94', '5.2', '0.51']
    """
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
