"""CVAT's own XML, for images and for videos, read as it comes: memory does not grow with the file.

A dump for videos lists every frame of a track, or only the key frames. Boxes between two listed frames are those that
CVAT itself shows there: on a straight line from the one to the other. After the last listed frame nothing is added.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import polars as pl

from schemas.errors import ItemError, UsageError
from schemas.raw import Facts, Source
from schemas.reasons import Rule
from transforms.readers.rows import Options, frames, json_object, number, picture_name, share, whole
from transforms.readers.shapes import NO_BOX, Box, bounds
from transforms.readers.xml import events, root_tag
from transforms.storage import opened, printable

MAX_FILLED = 100_000
"""Most frames between two listed ones that are filled in: an hour of video at 28 a second."""

MAX_NAMED = 1_000
"""Most attributes of one shape."""

_SHAPES = frozenset(
    {"box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton", "tag"},
)
_TOLD = frozenset({"label", "frame", "outside", "points", "xtl", "ytl", "xbr", "ybr"})
_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_CONFIDENCE = ("confidence", "score")
_FACE = frozenset({"face", "person"})
"""Names of the thing and not of its expression: then the attribute `expression` is the label."""
_TURN = 360.0


def is_one(head: bytes, name: str) -> bool:
    """Tell whether a file that begins so is a dump of CVAT."""
    return root_tag(head) == "annotations"


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return a row a visible shape, and one for each picture or video without any. Raises UsageError for broken XML."""
    facts.corners, facts.unit = "xyxy", "pixels"
    for path, name in zip(source.files, source.names, strict=True):
        try:
            with opened(path) as file:
                yield from frames(_Dump(path, name, facts).rows(file))
        except ItemError as error:
            raise UsageError(f"{error} Export it from CVAT again.") from None


@dataclass
class _Task:
    """What the dump says of a task: its video, the size of that, and how many frames lie from one to the next."""

    told: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return picture_name(self.told.get("source", "")) or picture_name(self.told.get("name", ""))

    @property
    def size(self) -> tuple[int | None, int | None]:
        return whole(self.told.get("width")), whole(self.told.get("height"))

    @property
    def step(self) -> int:
        name, _, step = self.told.get("frame_filter", "").replace(" ", "").partition("=")
        return max(1, whole(step) or 1) if name == "step" else 1


@dataclass(slots=True)
class _Shape:
    """A shape, from its beginning to its end."""

    at: int
    tag: str
    told: Mapping[str, str]
    named: dict[str, str] = field(default_factory=dict)
    parts: list["_Shape"] = field(default_factory=list)

    def box(self) -> Box:
        told = self.told
        match self.tag:
            case "box":
                left, top, right, bottom = [number(told.get(corner)) for corner in _CORNERS]
                return (left, top, right, bottom)
            case "tag":
                return NO_BOX
            case "ellipse":
                x, y, rx, ry = (number(told.get(name)) for name in ("cx", "cy", "rx", "ry"))
                return (x - rx, y - ry, x + rx, y + ry)
            case "mask":
                left, top, width, height = (number(told.get(name)) for name in ("left", "top", "width", "height"))
                return (left, top, left + width, top + height)
            case "cuboid":
                # Eight corners, each an `x` and a `y` with three letters after it: xtl1, ytl1, ...
                corners = [name[1:] for name in told if name[0] == "x" and len(name) == 4]
                return bounds(*([number(told.get(axis + corner)) for corner in corners] for axis in "xy"))
        points = [point for part in (self, *self.parts) for point in _points(part.told.get("points", ""))]
        return bounds([x for x, _ in points], [y for _, y in points])

    def attributes(self) -> dict[str, Any]:
        kept: dict[str, Any] = {name: value for name, value in self.told.items() if name not in _TOLD}
        if self.tag not in ("box", "tag"):
            kept["type"] = self.tag
        if "points" in self.told:
            kept["points"] = _points(self.told["points"])
        if self.parts:
            kept["points"] = {part.told.get("label", ""): _points(part.told.get("points", "")) for part in self.parts}
        return kept | _unpacked(self.named)


def _unpacked(named: dict[str, str]) -> dict[str, Any]:
    """Return attributes with those that our export has put into one, as JSON, because CVAT declares them by name."""
    try:
        more = json.loads(named.get("attributes", ""))
    except (ValueError, RecursionError):
        return named
    if not isinstance(more, dict):
        return named
    return {name: value for name, value in named.items() if name != "attributes"} | more


def _points(told: str) -> list[tuple[float, float]]:
    """Return the points of `x,y;x,y`."""
    pairs = (pair.partition(",") for pair in told.split(";") if pair)
    return [(number(x), number(y)) for x, _, y in pairs]


class _Dump:
    """A dump while it is read."""

    def __init__(self, path: str, name: str, facts: Facts) -> None:
        self._path, self._file, self._facts = path, name, facts
        self._shapes = 0

    def rows(self, file: BinaryIO) -> Iterator[tuple[Any, ...]]:
        found = events(file, self._path)
        tasks: dict[str, _Task] = {}
        is_told = False
        images = tracks = 0
        for is_begin, tag, told, _ in found:
            if not is_begin:
                continue
            if tag == "meta":
                tasks = self._meta(found)
            elif tag == "image":
                yield from self._image(images, told, found)
                images += 1
            elif tag == "track":
                task = tasks.get(told.get("task_id", "")) or next(iter(tasks.values()), _Task())
                for row in self._track(told, task, found):
                    is_told = True
                    yield row
                tracks += 1
        if not images and not is_told and tasks:
            for task in tasks.values():
                yield self._entry(0, self._video(task), task.size, {})

    def _meta(self, found: Iterator[tuple[bool, str, dict[str, str], str]]) -> dict[str, _Task]:
        """Read what is told of labels and tasks, up to the end of it."""
        above = ["meta"]
        labels: list[str] = []
        tasks: dict[str, _Task] = {}
        label: dict[str, str] = {}
        task, outside = _Task(), _Task()
        for is_begin, tag, _, said in found:
            if is_begin:
                above.append(tag)
                if tag == "label":
                    label = {}
                elif tag in ("task", "job"):
                    task = _Task()
                continue
            above.pop()
            if not above:
                break
            match above[-1], tag:
                case "label", _:
                    label[tag] = said.strip()
                case "labels", "label" if not label.get("parent"):  # a skeleton's points are labels below it
                    labels.append(label.get("name", ""))
                case (("task" | "job" | "original_size"), _):
                    task.told[tag] = said.strip()
                case _, "task" | "job":
                    tasks[task.told.get("id", str(len(tasks)))] = task
                case "meta", "source":
                    outside.told["source"] = said.strip()
        for each in tasks.values():
            each.told = outside.told | each.told
        self._facts.categories = tuple(dict.fromkeys(filter(None, labels))) or None
        return tasks

    def _image(self, at: int, told: Mapping[str, str], found: Any) -> Iterator[tuple[Any, ...]]:
        # A project writes the pictures of a subset into a folder of its name, and names repeat between these.
        subset, name = picture_name(told.get("subset", "")), picture_name(told.get("name", ""))
        picture = "/".join(filter(None, (subset, name or f"image {at}")))
        size = (whole(told.get("width")), whole(told.get("height")))
        kept = {"task_id": told["task_id"]} if "task_id" in told else {}
        is_empty = True
        for shape in self._until("image", found):
            is_empty = False
            yield self._row(shape, picture, size, None, shape.told.get("label"), shape.box(), kept | shape.attributes())
        if is_empty:
            yield self._entry(at, picture, size, kept)

    def _track(self, told: Mapping[str, str], task: _Task, found: Any) -> Iterator[tuple[Any, ...]]:
        video, size, label = self._video(task), task.size, told.get("label")
        kept = {"track": told.get("id", "")}
        before: tuple[int, _Shape, Box, dict[str, Any]] | None = None
        for shape in self._until("track", found):
            frame = whole(shape.told.get("frame"))
            box, attributes = shape.box(), kept | shape.attributes()
            if frame is not None and before and shape.tag == before[1].tag == "box":
                yield from self._between(before, (frame, shape, box, attributes), video, task, label)
            before = None
            if shape.told.get("outside", "0") != "0":
                continue
            yield self._row(shape, video, size, frame, label, box, attributes)
            if frame is not None:
                before = (frame, shape, box, attributes)

    def _between(
        self,
        before: tuple[int, _Shape, Box, dict[str, Any]],
        after: tuple[int, _Shape, Box, dict[str, Any]],
        video: str,
        task: _Task,
        label: str | None,
    ) -> Iterator[tuple[Any, ...]]:
        """Return what lies between two listed frames of which the first is visible."""
        first, shape, start, attributes = before
        last, _, end, later = after
        missing = range(first + task.step, last, task.step)
        if len(missing) > MAX_FILLED:
            self._facts.failures.append(
                (
                    self._file,
                    "too_large",
                    f"{printable(self._file)}: a track goes from frame {first:,} to frame {last:,}: the boxes between "
                    f"them are left out, because they are more than {MAX_FILLED:,}.",
                )
            )
            return
        for frame in missing:
            share_of = (frame - first) / (last - first)
            box = [a + (b - a) * share_of for a, b in zip(start, end, strict=True) if a is not None and b is not None]
            turned = _turned(attributes.get("rotation"), later.get("rotation"), share_of)
            filled = attributes | {"keyframe": "0", "interpolated": True} | turned
            yield self._row(shape, video, task.size, frame, label, box, filled)

    def _until(self, end: str, found: Any) -> Iterator[_Shape]:
        """Return the shapes up to the end of what holds them."""
        shape: _Shape | None = None
        inner: _Shape | None = None
        name = ""
        for is_begin, tag, told, said in found:
            if is_begin:
                if tag == "attribute":
                    name = told.get("name", "")
                elif tag in _SHAPES and shape is None:
                    shape = _Shape(self._shapes, tag, told)
                    self._shapes += 1
                elif tag in _SHAPES and shape is not None:
                    inner = _Shape(shape.at, tag, told)
            elif tag == end:
                return
            elif tag == "attribute" and shape is not None and inner is None:
                shape.named[name] = said
                if len(shape.named) > MAX_NAMED:
                    raise ItemError("too_large", f"{printable(self._path)}: a shape has over {MAX_NAMED:,} attributes.")
            elif inner is not None and shape is not None and tag == inner.tag:
                shape.parts.append(inner)
                inner = None
                if len(shape.parts) > MAX_NAMED:
                    raise ItemError("too_large", f"{printable(self._path)}: a skeleton has over {MAX_NAMED:,} points.")
            elif shape is not None and tag == shape.tag:
                yield shape
                shape = None

    def _video(self, task: _Task) -> str:
        return task.name or self._file.rpartition("/")[2].rpartition(".")[0]

    def _row(
        self,
        shape: _Shape,
        picture: str,
        size: tuple[int | None, int | None],
        frame: int | None,
        label: str | None,
        box: Sequence[float | None],
        attributes: dict[str, Any],
    ) -> tuple[Any, ...]:
        confidence = None
        for name in _CONFIDENCE:
            if name in attributes and confidence is None and (confidence := share(attributes[name])) is not None:
                del attributes[name]
        rule = detail = None
        if "frame" in shape.told and (frame is None or frame < 0):
            rule, detail = Rule.REFERENCE_FRAME.value, f"expected a frame's number, found {shape.told['frame'][:40]!r}"
        named = label if label and label.strip() else None
        if named and named.strip().lower() in _FACE and attributes.get("expression"):
            named = attributes["expression"]
        told = (confidence, json_object(attributes), rule, detail)
        return (self._file, shape.at, picture, *size, frame, None, True, named, *box, *told)

    def _entry(
        self, at: int, picture: str, size: tuple[int | None, int | None], attributes: dict[str, Any]
    ) -> tuple[Any, ...]:
        told = (None, json_object(attributes), None, None)
        return (self._file, at, picture, *size, None, None, False, None, *NO_BOX, *told)


def _turned(first: str | None, last: str | None, share_of: float) -> dict[str, float]:
    """Return the rotation between two, the shorter way round; nothing where neither box is turned."""
    if first is None and last is None:
        return {}
    start, end = number(first or 0), number(last or 0)
    way = (end - start + _TURN / 2) % _TURN - _TURN / 2
    return {"rotation": (start + way * share_of) % _TURN}
