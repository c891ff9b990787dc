"""The sections on faces: how many, how large, which labels, how sure, how good to look at, how turned."""

from collections.abc import Sequence

from pipelines.report import charts
from pipelines.report.numbers import SCALES, Face
from pipelines.report.page import Block, Figure, Gallery, Name, Picture, Section, Share, Table
from pipelines.report.told import Told
from pipelines.report.words import counted, cut, decimal, listed, percent, printed, ratio, with_share
from schemas.reasons import Outcome

LABELS_SHOWN = 20
_DARK, _BRIGHT, _FLAT, _UNSURE, _FRONTAL = 0.2, 0.8, 0.1, 0.5, 30
"""Edges of bins: from these on a face is told of as dark, very bright, and so on; the last in degrees."""


def faces(told: Told) -> Section | None:
    """Tell how many faces a picture has, and how large they are."""
    per_picture = told.numbers.faces_per_picture
    if not told.looked_at:
        return None
    thing, things = told.thing, f"{told.thing}s"
    most = max(per_picture)
    usual, times = max(((n, count) for n, count in per_picture.items() if n), key=lambda pair: pair[1], default=(0, 0))
    says = f"No {thing} was found."
    if times:
        share = percent(ratio(times, told.outcome(Outcome.LABELLED)))
        says = f"Pictures with {things} most often have {counted(usual, thing)} ({share}); the fullest has {most:,}."
    shown = {n: sum(count for own, count in per_picture.items() if min(own, 10) == n) for n in range(min(most, 10) + 1)}
    names = {n: "10 or more" if n == 10 else f"{n}" for n in shown}
    figures = [
        Figure(
            f"{things.capitalize()} per picture",
            f"{counted(per_picture.get(0, 0), 'picture')} without a {thing}.",
            charts.histogram(
                f"Pictures by number of {things}",
                [charts.Bar(n - 0.5, n + 0.5, count, f"{names[n]}: {count:,}") for n, count in shown.items()],
                [(n, "10+" if n == 10 else f"{n}") for n in shown],
            ),
            Table(
                f"Pictures by number of {things}",
                (things.capitalize(), "Pictures", "Share"),
                [(names[n], count, Share(ratio(count, told.looked_at))) for n, count in shown.items()],
            ),
        )
    ]
    if told.numbers.bins["size"]:
        figures.append(
            _histogram(
                told,
                "size",
                "Face size" if told.tallies is None else "Box size",
                _middle(told, "size") + (" Small faces are labelled less reliably." if told.tallies is None else ""),
                "Longer side of the box, pixels",
                (8, 16, 32, 64, 125, 250, 500, 1_000, 2_000, 4_000),
            )
        )
    if small := told.summary.get("small_faces"):
        says += f" {counted(small, 'face')} under the least size were only counted."
    if told.tallies is None:
        return Section("faces", "Faces", says, figures)
    return Section("boxes", "Labels and boxes" if len(figures) > 1 else "Labels per picture", says, figures)


def labels(told: Told) -> Section | None:
    """Tell how the labels are balanced, and how sure the model is of each."""
    found = told.numbers.labels
    if not found:
        return None
    total = sum(label.faces for label in found)
    known = told.dataset.labels if told.tallies is None else told.categories
    missing = [name for name in known if name not in {label.name for label in found}]
    says = f"The most frequent label is {printed(found[0].name)} ({percent(found[0].faces / total)})"
    says += f", the rarest {printed(found[-1].name)} ({percent(found[-1].faces / total)})." if len(found) > 1 else "."
    if missing:
        what = "No face was labelled" if told.tallies is None else "Nothing is labelled"
        says += f" {what} {' or '.join(map(printed, missing[:8]))}."
    if len(found) > LABELS_SHOWN:
        says += f" The charts show the {LABELS_SHOWN} most frequent of {len(found)} labels."
    shown = found[:LABELS_SHOWN]
    rated = sorted((each for each in shown if each.confidence is not None), key=lambda each: -(each.confidence or 0))
    things, name = ("Faces", "label") if told.tallies is None else ("Labels", "name")
    balance = Figure(
        "Label balance",
        f"{counted(len(found), 'label')} on {counted(total, 'face')}."
        if told.tallies is None
        else f"{counted(total, 'label')} of {counted(len(found), 'name')}.",
        charts.rows(
            f"{things} by {name}",
            [charts.Row(printed(each.name, 24), each.faces, with_share(each.faces, total)) for each in shown],
        ),
        Table(
            f"{things} by {name}",
            ("Label", things, "Share"),
            [(each.name, each.faces, Share(each.faces / total)) for each in shown],
        ),
    )
    blocks: list[Block] = [balance]
    if rated:
        sure, unsure = rated[0], rated[-1]
        blocks.append(
            Figure(
                "Mean confidence by label",
                f"Surest of {printed(sure.name)} ({cut(sure.confidence)})"
                + (f", least sure of {printed(unsure.name)} ({cut(unsure.confidence)})." if len(rated) > 1 else "."),
                charts.rows(
                    "Mean confidence by label",
                    [charts.Row(printed(each.name, 24), each.confidence or 0, cut(each.confidence)) for each in rated],
                ),
                Table(
                    "Mean confidence by label",
                    ("Label", "Mean confidence", things),
                    [(each.name, each.confidence, each.faces) for each in rated],
                ),
            )
        )
    return Section("labels", "Labels", says, blocks)


def quality(told: Told) -> Section | None:
    """Tell how sure the labels are, and how good the faces are to look at."""
    if not told.numbers.bins["confidence"]:
        return None
    unsure = percent(_below(told, "confidence", _UNSURE))
    says = f"{unsure} of the {told.thing}s have a confidence under {_UNSURE}."
    tenths = (0, 0.25, 0.5, 0.75, 1)
    figures = [
        _histogram(told, "confidence", "Confidence", _middle(told, "confidence"), "Expected share of votes", tenths)
    ]
    if told.numbers.bins["brightness"]:
        dark, bright = _below(told, "brightness", _DARK), 1 - _below(told, "brightness", _BRIGHT)
        flat = _below(told, "contrast", _FLAT)
        words = ((dark, "are dark"), (bright, "are very bright"), (flat, "have little contrast"))
        told_of = [f"{percent(share)} {what}" for share, what in words if share]
        says += f" {listed(told_of)}." if told_of else " None is dark, very bright or of little contrast."
        figures += [
            _histogram(
                told, "brightness", "Brightness", _middle(told, "brightness"), "Mean of the crop, 0 to 1", tenths
            ),
            _histogram(
                told,
                "contrast",
                "Contrast",
                _middle(told, "contrast"),
                "Standard deviation of the crop",
                (0, 0.1, 0.2, 0.3, 0.4, 0.5),
            ),
            _histogram(
                told,
                "sharpness",
                "Sharpness",
                f"{_middle(told, 'sharpness')} The less, the more blurred.",
                "Variance of the Laplacian of the crop",
                (1, 10, 100, 1_000, 10_000),
            ),
        ]
    return Section("quality", "Confidence and quality", says, figures)


def pose(told: Told) -> Section | None:
    """Tell how the heads are turned, where that was computed."""
    turned = [name for name in ("yaw", "pitch", "roll") if told.numbers.bins[name]]
    if not turned:
        return None
    ticks = (-90, -60, -30, 0, 30, 60, 90)
    meaning = {"yaw": "to the side", "pitch": "up or down", "roll": "tilted"}
    figures = []
    says = []
    for name in turned:
        frontal = _below(told, name, _FRONTAL) - _below(told, name, -_FRONTAL)
        says.append(f"{percent(1 - frontal)} {meaning[name]}")
        figures.append(
            _histogram(
                told, name, name.capitalize(), f"{percent(frontal)} within {_FRONTAL}° of 0.", "Degrees", ticks, "°"
            )
        )
    return Section("pose", "Head pose", f"Turned by more than {_FRONTAL}°: {', '.join(says)}.", figures)


def to_look_at(told: Told) -> Section | None:
    """Show the faces that are most worth a look: as pictures where crops are stored, else by name."""
    numbers = told.numbers
    if not numbers.least_certain or told.tallies is not None:  # of a cleaned data set what is held back is worth it
        return None
    groups = (("Least certain", numbers.least_certain), ("Least sharp", numbers.least_sharp))
    blocks: list[Block] = []
    for title, each in groups:
        pictures = [Picture(face.crop, _face_name(face), _face_text(face)) for face in each if face.crop is not None]
        if pictures:
            blocks.append(Gallery(title, pictures))
        if bare := [face for face in each if face.crop is None]:
            blocks.append(
                Table(
                    title,
                    ("Picture", "Face", "Label", "Confidence", "Sharpness"),
                    [
                        (Name(face.file_name), face.rank + 1, face.label, face.confidence, face.sharpness)
                        for face in bare
                    ],
                )
            )
    says = "The faces of which the model was least certain, and those that are most blurred."
    if not numbers.has_crops:
        says += " They are named only: crops are stored, and shown here, with --crops."
    return Section("look", "Worth a look", says, blocks)


def _face_name(face: Face) -> str:
    return f"{face.file_name}, face {face.rank + 1}" if face.rank else face.file_name


def _face_text(face: Face) -> str:
    confidence = "" if face.confidence is None else f" {cut(face.confidence)}"
    sharpness = "" if face.sharpness is None else f", sharpness {decimal(face.sharpness)}"
    return f"{printed(face.label, 24)}{confidence}{sharpness}"


def _histogram(
    told: Told, column: str, title: str, says: str, unit: str, ticks: Sequence[float], suffix: str = ""
) -> Figure:
    """Return the histogram of a column of the faces, from the first to the last bin that it uses."""
    scale, counts = SCALES[column], told.numbers.bins[column]
    total = sum(counts.values())
    used = range(min(counts), max(counts) + 1) if scale.log else range(scale.bins)
    bars, rows = [], []
    for number in used:
        low, high = scale.edges(number)
        name = f"{_short(scale.value(low))}–{_short(scale.value(high))}{suffix}"
        count = counts.get(number, 0)
        bars.append(charts.Bar(low, high, count, f"{name}: {with_share(count, total)}"))
        rows.append((name, count, Share(ratio(count, total))))
    places = [(scale.place(tick), f"{charts.compact(tick)}{suffix}") for tick in ticks]
    inside = [(place, text) for place, text in places if bars[0].low <= place <= bars[-1].high]
    return Figure(
        title,
        says,
        charts.histogram(f"{title}: {unit}", bars, inside),
        Table(unit, ("From–to", f"{told.thing.capitalize()}s", "Share"), rows),
    )


def _middle(told: Told, column: str) -> str:
    """Tell in which bin the median is."""
    scale, counts = SCALES[column], told.numbers.bins[column]
    left = sum(counts.values()) / 2
    for number, count in sorted(counts.items()):
        left -= count
        if left <= 0:
            low, high = (_short(scale.value(edge)) for edge in scale.edges(number))
            return f"The median is between {low} and {high}{' pixels' if column == 'size' else ''}."
    return ""


def _below(told: Told, column: str, value: float) -> float:
    """Return the share of faces under a value, which is an edge of a bin."""
    scale, counts = SCALES[column], told.numbers.bins[column]
    edge = round((value - scale.low) / scale.width)
    return ratio(sum(count for number, count in counts.items() if number < edge), sum(counts.values()))


def _short(value: float) -> str:
    """Return an edge of a bin."""
    return f"{value:,.0f}" if abs(value) >= 8 or value == round(value) else f"{value:.3g}"
