"""The section on videos: how the labels change over time."""

from collections.abc import Mapping, Sequence

from pipelines.report import charts
from pipelines.report.numbers import Video
from pipelines.report.page import Figure, Section, Table
from pipelines.report.told import Told
from pipelines.report.words import counted, percent, printed, ratio
from schemas.vocabulary import EXPRESSIONS

COLOURS = 9
"""How many colours the timelines have; the last one is for all labels that have none of their own."""


def videos(told: Told) -> Section | None:
    """Tell how the labels change over the time of each video."""
    shown = told.numbers.videos
    if not shown:
        return None
    colours = _colours(shown)
    total = len(shown) + told.numbers.videos_left_out
    first = "the label of each frame's best face" if told.tallies is None else "each frame's first label"
    says = f"{counted(total, 'video')}. Each column is a stretch of time: {first}, as a "
    says += f"share of the frames; where frames have no {told.thing} the column has a gap."
    if told.numbers.videos_left_out:
        says += f" The {len(shown)} longest are shown, {told.numbers.videos_left_out:,} are left out."
    return Section("videos", "Labels over time", says, [_timeline(video, colours, told.thing) for video in shown])


def _colours(shown: Sequence[Video]) -> dict[str, int]:
    """Return the number of each label's colour: the canonical labels keep theirs, others take what is left."""
    found = {
        label: sum(map(sum, [video.labels.get(label, ()) for video in shown]))
        for video in shown
        for label in video.labels
    }
    colours = {label: EXPRESSIONS.index(label) for label in found if label in EXPRESSIONS}
    free = [number for number in range(COLOURS - 1) if number not in colours.values()]
    others = sorted(found.keys() - colours.keys(), key=lambda label: (-found[label], label))
    return colours | {label: free[at] if at < len(free) else COLOURS - 1 for at, label in enumerate(others)}


def _timeline(video: Video, colours: Mapping[str, int], thing: str) -> Figure:
    frames = sum(video.frames)
    by_colour: dict[int, list[str]] = {}
    for label in sorted(video.labels, key=lambda label: (colours[label], label)):
        by_colour.setdefault(colours[label], []).append(label)
    names = {colour: printed(each[0], 24) if len(each) == 1 else "other" for colour, each in by_colour.items()}
    counts = {
        colour: [sum(video.labels[label][at] for label in each) for at in range(len(video.bins))]
        for colour, each in by_colour.items()
    }
    series = [
        [
            (ratio(count, of), f"{_clock(start)} {names.get(colour, '')} {percent(ratio(count, of))}")
            for count, of, start in zip(
                counts.get(colour, [0] * len(video.bins)), video.frames, video.bins, strict=True
            )
        ]
        for colour in range(COLOURS)
    ]
    every = max(1, len(video.bins) // 4)
    ticks = [_clock(start) if at % every == 0 else "" for at, start in enumerate(video.bins)]
    with_face = sum(map(sum, counts.values()))
    says = f"{_clock(video.seconds)} long, {counted(frames, 'frame')}, a {thing} in {percent(ratio(with_face, frames))}"
    if counts:
        most = max(counts, key=lambda colour: sum(counts[colour]))
        says += f"; mostly {names[most]} ({percent(ratio(sum(counts[most]), with_face))} of these)"
    name = "Labels over time of " + printed(video.file_name)
    return Figure(
        video.file_name,
        says + ".",
        charts.stacked_shares(name, series, ticks),
        Table(
            "Frames by time and label",
            ("From", "Frames", *names.values(), f"No {thing}"),
            [
                (_clock(start), of, *(own[at] for own in counts.values()), of - sum(own[at] for own in counts.values()))
                for at, (start, of) in enumerate(zip(video.bins, video.frames, strict=True))
            ],
        ),
        tuple(names.items()),
    )


def _clock(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
