"""How good are a data set's labels? Hold them against the truth: `--dataset out/ --truth labels.csv`.

The truth is a table (one line a picture or a box, with a label or votes), folders named by label, or COCO. Faces are
paired by their boxes where the truth has boxes; where it has one label a picture, the largest face is meant. What
the data set has no label for counts against its coverage and is named in missed.csv. Beam is never loaded.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from pipelines.logs import run_command
from pipelines.options import DEFAULT_OUTPUT, Parser, share
from schemas.aliases import CODES
from transforms.places import Place, place

GATES = (
    *("accuracy", "accuracy_counting_missed", "macro_f1", "macro_f1_counting_missed", "coverage"),
    *("ap", "ap50"),
)
"""What `--at-least` knows."""

_NAMED = 10
"""Missed faces that are named on the terminal."""

_WIDTH = 80
_MOST_LABELS = 8
"""Labels whose confusion fits into that width."""

_FEW = 100
"""Fewer faces make intervals that are only a hint."""


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code: 1 where `--at-least` is not reached."""
    options = _parser().parse_args(argv)
    from pipelines.dataset import Dataset
    from pipelines.evaluation import Question, evaluate

    dataset = Dataset(options.dataset)
    dataset.verify()
    question = Question(
        options.truth, options.truth_format, options.codes, options.columns or {}, options.iou, options.skip_absent
    )
    evaluation = evaluate(dataset, question)
    folder = place(options.output) if options.output else dataset.path / "report"
    _write(folder, evaluation.told, evaluation.missed.write_csv().encode())
    _refresh_report(dataset.path, folder)
    rows = evaluation.missed.head(_NAMED).iter_rows(named=True)
    print("\n".join([*lines(evaluation.told), *_named(rows, evaluation.told["missed"], folder)]))
    return _gate(evaluation.told, options.at_least or {})


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Return what evaluation.json says for a terminal of 80 columns."""
    yield from _about_truth(told)
    yield ""
    yield from _overall(told)
    if told["votes"]:
        yield from _votes(told["votes"])
    if told["per_class"]:
        yield ""
        yield from _classes(told)
        yield ""
        yield from _confusion(told["confusion"])
    if told["boxes"]:
        yield ""
        yield from _boxes(told["boxes"])


def _about_truth(told: Mapping[str, Any]) -> Iterator[str]:
    truth = told["truth"]
    yield f"truth: {truth['path']} ({truth['format']}): {truth['faces']:,} faces on {truth['pictures']:,} pictures"
    if truth["absent_pictures"]:
        hint = "" if truth["absent_are"] == "left out" else " (--skip-absent leaves them out)"
        yield f"  pictures not in the data set: {truth['absent_pictures']:,}, {truth['absent_are']}{hint}"
    if truth["crowded_pictures"]:
        yield f"  pictures with several faces, of which the largest is meant: {truth['crowded_pictures']:,}"
    if told["unknown_labels"]:
        most = [f"{_cut(label, 30)!r} {count:,}" for label, count in list(told["unknown_labels"].items())[:5]]
        more = ["..."] if len(told["unknown_labels"]) > len(most) else []
        yield from _listed("unknown labels, left out", [*most, *more])
        if any(label.strip().isdecimal() for label in told["unknown_labels"]):
            yield "  if the numbers are codes, say which with --codes"
    for reason, count in truth["left_out"].items():
        yield f"  {reason}: {count:,}"


def _overall(told: Mapping[str, Any]) -> Iterator[str]:
    overall, faces, missed = told["overall"], told["truth"]["faces"], told["missed"]
    notes = {
        "accuracy": ("accuracy", "of covered faces"),
        "accuracy_counting_missed": ("accuracy, missed = wrong", "of all faces"),
        "macro_f1": ("macro-F1", "of covered faces"),
        "macro_f1_counting_missed": ("macro-F1, missed = wrong", "of all faces"),
        "coverage": ("coverage", f"{missed:,} of {faces:,} faces missed"),
        "ece": ("calibration error (ECE)", _leaning(told["reliability"])),
    }
    yield f"{'':26}{'value':>6}  {'95 %':13}"
    for name, (text, note) in notes.items():
        yield f"{text:26}{_figures(overall[name])}  {note}".rstrip()
    if faces - missed < _FEW:
        yield "few faces: the intervals are rough; where all faces are right they show no doubt"


def _figures(interval: Mapping[str, float | None]) -> str:
    return f"{_short(interval['value']):>6}  {_span(interval['low'], interval['high']):13}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{_short(low)}-{_short(high)}"


def _leaning(bins: Sequence[Mapping[str, Any]]) -> str:
    """Say to which side the confidence errs."""
    faces = sum(one["count"] for one in bins)
    if not faces:
        return "no confidences"
    mean = {name: sum(one["count"] * (one[name] or 0) for one in bins) / faces for name in ("confidence", "accuracy")}
    return f"says {mean['confidence']:.3f}, is right {mean['accuracy']:.3f}"


def _votes(votes: Mapping[str, Any]) -> Iterator[str]:
    notes = {
        "jensen_shannon": ("divergence from the votes", "bits, 0 to 1,"),
        "majority": ("accuracy, by majority", "FER+'s rule,"),
        "plurality": ("accuracy, by plurality", "most votes,"),
    }
    for name, (text, note) in notes.items():
        yield f"{text:26}{_figures(votes[name])}  {note} {votes[name]['faces']:,} faces"


def _classes(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'label':14}{'covered':>9}{'missed':>8}{'precision':>11}{'recall':>9}  {'95 %':13}{'F1':>7}"
    for one in told["per_class"]:
        recall = f"{_short(one['recall']):>9}  {_span(one['recall_low'], one['recall_high']):13}"
        counts = f"{one['support']:9,}{one['missed']:8,}"
        yield f"{_cut(one['label'], 13):14}{counts}{_short(one['precision']):>11}{recall}{_short(one['f1']):>7}"
    for label in told["classes"]["unknown_to_data_set"]:
        yield f"  {label}: the data set's models do not know it; its faces count as wrong"
    if told["classes"]["not_in_truth"]:
        yield from _listed("not in the truth, so not judged", told["classes"]["not_in_truth"])


def _listed(what: str, names: Sequence[str]) -> list[str]:
    return wrap(f"{what}: {', '.join(names)}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _confusion(confusion: Mapping[str, Any]) -> Iterator[str]:
    labels = confusion["labels"]
    if len(labels) > _MOST_LABELS:
        yield f"confusion of {len(labels)} labels: see evaluation-confusion.png"
        return
    yield "confusion, a row for each label of the truth"
    yield " " * 8 + "".join(f"{label[:7]:>8}" for label in (*labels, "missed"))
    for label, counts, missed in zip(labels, confusion["counts"], confusion["missed"], strict=True):
        yield f"{label[:8]:8}" + "".join(f"{count:8,}" for count in (*counts, missed))


def _boxes(boxes: Mapping[str, Any]) -> Iterator[str]:
    for name, text in (("ap", "boxes: AP@[.5:.95]"), ("ap50", "boxes: AP50")):
        yield f"{text:26}{_short(boxes[name]):>6}  {_span(boxes[f'{name}_low'], boxes[f'{name}_high'])}"
    for one in boxes["recall_by_size"]:
        if one["truth"]:
            above = "and more" if one["to_px"] is None else f"to {one['to_px']}"
            yield f"  {one['from_px']} {above} px: {one['found']:,} of {one['truth']:,} faces found"


def _named(missed: Iterator[Mapping[str, Any]], count: int, folder: Place) -> Iterator[str]:
    from transforms.storage import printable

    yield ""
    if count:
        yield f"missed faces ({min(count, _NAMED)} of {count:,}; all in {printable(str(folder / 'missed.csv'))}):"
    for row in missed:
        place = "" if row["x"] is None else " at " + ", ".join(f"{row[side]:.0f}" for side in "xywh")
        time = "" if row["pts_ms"] is None else f" at {row['pts_ms']:g} ms"
        name = "".join(char if char.isprintable() else "?" for char in row["file"])
        yield f"  {name}{time}{place}: {row['reason']}"
    yield f"written: {printable(str(folder / 'evaluation.json'))}, -confusion.png, -reliability.png"


def _write(folder: Place, told: Mapping[str, Any], missed: bytes) -> None:
    from transforms.storage import write_atomic
    from validation.figures import draw_confusion, draw_reliability

    confusion = told["confusion"]
    files = {
        "evaluation.json": json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False).encode(),
        "evaluation-confusion.png": draw_confusion(confusion["labels"], confusion["counts"], confusion["missed"]),
        "evaluation-reliability.png": draw_reliability(told["reliability"], told["overall"]["ece"]["value"]),
        "missed.csv": missed,
    }
    for name, data in files.items():
        write_atomic(str(folder / name), data)


def _refresh_report(dataset: Place, folder: Place) -> None:
    """Write the data set's page anew where there is one, so that it shows the figures."""
    summary = dataset / "report" / "summary.json"
    if folder == dataset / "report" and (folder / "index.html").is_file() and summary.is_file():
        from pipelines.dataset import Dataset, read_json
        from pipelines.report import write_report

        write_report(Dataset(dataset), read_json(summary))


def _gate(told: Mapping[str, Any], at_least: Mapping[str, float]) -> int:
    """Tell which figures are not high enough; one that cannot be computed is not. Return the exit code."""
    boxes = told["boxes"] or {}
    code = 0
    for name, least in at_least.items():
        value = boxes.get(name) if name.startswith("ap") else told["overall"][name]["value"]
        if value is None or value < least:
            print(f"not reached: {name} is {_short(value)}, expected at least {least:g}", file=sys.stderr)
            code = 1
    return code


def _pairs(text: str) -> dict[str, str]:
    """Read `name=value,name=value`, for argparse."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and value.strip() for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"expected name=value,name=value, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _at_least(text: str) -> dict[str, float]:
    pairs = _pairs(text)
    if unknown := [name for name in pairs if name not in GATES]:
        raise argparse.ArgumentTypeError(f"no figure {unknown[0]!r}: expected one of {', '.join(GATES)}")
    return {name: share(value) for name, value in pairs.items()}


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.evaluate", description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate made")
    parser.add_argument(
        "--truth", required=True, metavar="WHERE", help="a table (CSV, TSV), a folder of folders, or a COCO file"
    )
    parser.add_argument(
        "--truth-format", choices=["csv", "folders", "coco"], help="how the truth is read; its content tells otherwise"
    )
    parser.add_argument(
        "--columns",
        type=_pairs,
        metavar="NAME=COLUMN,...",
        help="where a table holds what, by name or number from 1: file=2,label=3; also frame_index, pts_ms, and "
        "x, y, w, h or xmin, ymin, xmax, ymax in pixels. Usual names are found by themselves",
    )
    parser.add_argument("--codes", choices=list(CODES), help="labels may be numbers, in the order of this data set")
    parser.add_argument(
        "--iou",
        type=share,
        default=0.5,
        metavar="SHARE",
        help="least overlap (IoU) of a face with its box of the truth",
    )
    parser.add_argument(
        "--skip-absent",
        action="store_true",
        help="leave out what the data set does not hold, as where the truth is of more pictures; else it is missed",
    )
    parser.add_argument("--output", metavar="DIR", help="where the figures are written (default: DATASET/report)")
    parser.add_argument(
        "--at-least",
        type=_at_least,
        metavar="NAME=SHARE,...",
        help=f"exit with 1 where one of these is not reached: {', '.join(GATES)}",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
