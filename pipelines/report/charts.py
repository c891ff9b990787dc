"""Charts as bare inline SVG: no script, no style, no id. The page's stylesheet colours them, in light and in dark."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import pygal
from pygal.etree import etree
from pygal.style import Style

WIDTH, HEIGHT, ROW_HEIGHT = 360, 180, 25
"""The size of a chart, and of one row of bars, in the units of its view box; texts have 12."""

_STYLE = Style(label_font_size=12, major_label_font_size=12, value_font_size=12, font_family="sans-serif")
_NUMBER = re.compile(r"-?\d+\.\d+")
_GONE = {"defs", "desc", "titles", "tooltip-overlay", "background"}

# With lxml, where it happens to be installed, the same charts would have other bytes.
etree.to_etree()


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: from `low` to `high` on the axis; `told` is what it says when it is pointed at."""

    low: float
    high: float
    value: float
    told: str


@dataclass(frozen=True)
class Row:
    """One horizontal bar; `told` stands at its end."""

    label: str
    value: float
    told: str


def histogram(name: str, bars: Sequence[Bar], ticks: Sequence[tuple[float, str]]) -> str:
    """Return a histogram of bars of equal width; `ticks` are the labelled places of the axis."""
    shown = dict(ticks)
    chart = _chart(pygal.Histogram, x_value_formatter=lambda value: shown.get(value, ""), min_scale=2, max_scale=5)
    chart.value_formatter = compact
    chart.x_labels = [place for place, _ in ticks]
    gap = 0.03 * (bars[0].high - bars[0].low)
    chart.add("", [{"value": (bar.value, bar.low + gap, bar.high - gap), "tooltip": bar.told} for bar in bars])
    return _drawn(chart, name)


def rows(name: str, each: Sequence[Row]) -> str:
    """Return horizontal bars from top to bottom, each with its value at its end."""
    widest = max((row.value for row in each), default=0) or 1
    chart = _chart(
        pygal.HorizontalBar,
        height=ROW_HEIGHT * len(each) + 12,
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        range=(0, widest * 1.45),  # room for the text at the end of the longest bar
        margin_bottom=0,
    )
    upward = list(reversed(each))
    told = iter([row.told for row in upward])
    chart.x_labels = [row.label for row in upward]
    chart.y_labels = [0]
    chart.add("", [row.value for row in upward], formatter=lambda _: next(told))
    return _drawn(chart, name)


def stacked_shares(name: str, series: Sequence[Sequence[tuple[float, str]]], ticks: Sequence[str]) -> str:
    """Return columns of stacked shares (0..1, text) of which what is missing to 1 stays empty.

    The n-th series has the n-th colour. `ticks` labels the columns, "" where there is no label.
    """
    chart = _chart(pygal.StackedBar, height=140, range=(0, 1), truncate_label=-1)
    chart.value_formatter = lambda share: f"{share * 100:.0f}\xa0%"
    chart.x_labels, chart.y_labels = list(ticks), [0, 0.5, 1]
    for each in series:
        chart.add("", [{"value": share, "tooltip": told} if share else None for share, told in each])
    return _drawn(chart, name)


def diagonal(name: str, points: Sequence[tuple[float, float, str]]) -> str:
    """Return points (x, y, text) in 0..1 joined by a line, over the diagonal on which x equals y."""
    chart = _chart(pygal.XY, height=WIDTH * 0.7, range=(0, 1), xrange=(0, 1), dots_size=3)
    chart.value_formatter = chart.x_value_formatter = "{:g}".format
    chart.x_labels = chart.y_labels = [0, 0.25, 0.5, 0.75, 1]
    chart.add("", [{"value": (x, y), "tooltip": told} for x, y, told in points])
    chart.add("", [(0, 0), (1, 1)], show_dots=False)
    return _drawn(chart, name)


def compact(count: float) -> str:
    """Return a number for an axis.

    >>> compact(12_000), compact(1_500_000), compact(0.5)
    ('12k', '1.5M', '0.5')
    """
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= unit:
            return f"{count / unit:g}{name}"
    return f"{count:g}"


def _chart(kind: Callable[..., Any], **options: Any) -> Any:
    common = {"width": WIDTH, "height": HEIGHT, "style": _STYLE, "js": (), "css": (), "classes": ("chart",)}
    look = {"show_legend": False, "margin": 6, "spacing": 6, "truncate_label": 22, "no_prefix": True}
    return kind(**(common | look | options))


def _drawn(chart: Any, name: str) -> str:
    """Return the chart as SVG that a screen reader calls `name`."""
    root = chart.render_tree()
    _strip(root)
    root.attrib = {"class": "chart", "viewBox": root.get("viewBox"), "role": "img", "aria-label": name}
    text: str = etree.tostring(root, encoding="unicode")
    return text


def _strip(node: Element) -> None:
    """Take out what only pygal's own script and style need, what is empty, and digits that nobody sees."""
    for child in list(node):
        if _superfluous(node, child):
            node.remove(child)
            continue
        if {"axis", "x"} <= _classes(child):  # its labels stay, its upright lines go
            for guide in child.iter("g"):
                guide[:] = [part for part in guide if part.tag != "path"]
        _strip(child)
        if child.tag in ("g", "text") and not len(child) and not child.text:
            node.remove(child)
    for key, value in node.attrib.items():
        node.set(key, _NUMBER.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value))
    for key in ("rx", "ry", "style"):
        node.attrib.pop(key, None)
    if node.tag in ("rect", "circle"):
        node.attrib.pop("class", None)


def _superfluous(node: Element, child: Element) -> bool:
    classes = _classes(child)
    if not isinstance(child.tag, str) or ({child.tag} | classes) & _GONE:
        return True
    if child.tag == "title":  # pygal's own, beside the axes' texts and at the top; ours are at the bars and dots
        return not {"bar", "histbar", "dots"} & _classes(node)
    flat = [rect for rect in child.findall("rect") if float(rect.get("height", 1)) * float(rect.get("width", 1)) < 0.01]
    return bool(flat) and bool(classes & {"bar", "histbar"})


def _classes(node: Element) -> set[str]:
    return set(node.get("class", "").split())
