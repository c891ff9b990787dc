"""The section "Evaluation": report/evaluation.json, which another job writes. Whatever is missing in it is left out."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from pipelines.logs import log
from pipelines.report import charts
from pipelines.report.page import Block, Cell, Figure, Matrix, Section, Table
from pipelines.report.sections import flat
from pipelines.report.told import MAX_BYTES, read_object
from pipelines.report.words import counted, decimal, printed
from transforms.places import Place

ROWS_SHOWN, MATRIX_SHOWN = 50, 20
_NAMES = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "coverage": "Coverage", "ece": "Calibration error"}


def evaluated(path: Place) -> Section | None:
    """Return the section of an evaluation; null where there is none, or none that can be read."""
    if not path.is_file():
        return None
    told = read_object(path)
    if told is None:
        log.warning("report leaves out %s: expected a JSON object of less than %d bytes", path, MAX_BYTES)
        return None
    blocks = [
        block
        for make in (_overall, _per_class, _reliability, _confusion, _rest)
        for block in [make(told)]
        if block is not None
    ]
    return Section("evaluation", "Evaluation", _says(told), blocks)


def _says(told: Mapping[str, Any]) -> str:
    found = [
        f"{name[0].lower()}{name[1:]} {decimal(value)}{_between(told, key)}"
        for key, name in _NAMES.items()
        for value in [_number(_object(_object(told, "overall"), key).get("value"))]
        if value is not None
    ]
    return f"Against known labels: {', '.join(found)}." if found else "Against known labels."


def _between(told: Mapping[str, Any], key: str) -> str:
    both = [_number(_object(_object(told, "overall"), key).get(end)) for end in ("low", "high")]
    return "" if None in both else f" ({'–'.join(decimal(end) for end in both if end is not None)})"


def _overall(told: Mapping[str, Any]) -> Block | None:
    overall = _object(told, "overall")
    rows: list[tuple[Cell, ...]] = [
        (_NAMES.get(key, printed(key)), *(_number(value.get(name)) for name in ("value", "low", "high")))
        for key, value in overall.items()
        if isinstance(value, dict)
    ]
    return Table("Overall", ("Measure", "Value", "Low", "High"), rows[:ROWS_SHOWN]) if rows else None


def _per_class(told: Mapping[str, Any]) -> Block | None:
    names = ("support", "precision", "recall", "f1")
    rows: list[tuple[Cell, ...]] = [
        (_text(each.get("label")), _count(each.get("support")), *(_number(each.get(name)) for name in names[1:]))
        for each in _objects(told, "per_class")
    ]
    return Table("By label", ("Label", *map(str.capitalize, names)), rows[:ROWS_SHOWN]) if rows else None


def _confusion(told: Mapping[str, Any]) -> Block | None:
    confusion = _object(told, "confusion")
    labels, counts = confusion.get("labels"), confusion.get("counts")
    if not isinstance(labels, list) or not isinstance(counts, list) or not 0 < len(labels) <= MATRIX_SHOWN:
        return None
    rows = [[_count(count) or 0 for count in row] for row in counts if isinstance(row, list)]
    if [len(row) for row in rows] != [len(labels)] * len(labels):
        return None
    caption = "Confusion: rows are the known labels, columns what the model said; shaded by the share of the row"
    return Matrix(caption, tuple(map(_text, labels)), tuple(map(tuple, rows)))


def _reliability(told: Mapping[str, Any]) -> Block | None:
    names = ("confidence", "accuracy", "count", "low", "high")
    bins = [{name: _number(each.get(name)) for name in names} for each in _objects(told, "reliability")[:ROWS_SHOWN]]
    points = [
        (confidence, accuracy, f"confidence {decimal(confidence)}, accuracy {decimal(accuracy)}")
        for each in bins
        for confidence, accuracy in [(each["confidence"], each["accuracy"])]
        if confidence is not None and accuracy is not None and 0 <= confidence <= 1 and 0 <= accuracy <= 1
    ]
    if not points:
        return None
    over = sum(confidence > accuracy for confidence, accuracy, _ in points)
    return Figure(
        "Reliability",
        f"Below the dashed line the model is surer than it is right: {over} of {counted(len(points), 'bin')}.",
        charts.diagonal("Accuracy (upwards) by confidence (to the right)", points),
        Table(
            "Accuracy by confidence",
            ("From", "To", "Faces", "Confidence", "Accuracy"),
            [(each["low"], each["high"], _count(each["count"]), each["confidence"], each["accuracy"]) for each in bins],
        ),
    )


def _rest(told: Mapping[str, Any]) -> Block | None:
    rows = [row for key in ("boxes", "votes") if _object(told, key) for row in flat(_object(told, key), f"{key}.")]
    return Table("Boxes and votes", ("Measure", "Value"), rows[:ROWS_SHOWN]) if rows else None


def _object(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = told.get(key)
    return value if isinstance(value, dict) else {}


def _objects(told: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = told.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) < 1e15 and isfinite(value) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
