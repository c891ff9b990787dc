"""Which frames of a video are wanted: all, key frames, or so many a second."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from schemas.errors import UsageError

T = TypeVar("T")

ALL, KEYFRAMES = "all", "keyframes"
MOST_FPS = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a choice needs to know of a frame: `pts` in its stream's time base, and whether it is a key frame."""

    pts: int
    is_key: bool


def read_fps(text: str) -> Fraction:
    """Return frames a second from a text such as "5", "0.5" or "30000/1001"; raise UsageError for anything else."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= MOST_FPS:
        raise UsageError(f"expected frames a second, above 0 and at most {MOST_FPS}, as 5, 0.5 or 1/3; got {text!r}")
    return rate


def pick(
    frames: Iterable[tuple[Candidate, T]], wanted: str, time_base: tuple[int, int]
) -> Iterator[tuple[Candidate, T]]:
    """Yield the wanted ones of `frames`, which come in the order of showing.

    `wanted` is "all", "keyframes", or a number of frames a second as `read_fps` takes it. Ticks then stand at equal
    distances from the first frame on, as long as the video lasts, and each has the frame shown nearest to it, if
    there is one within half a distance, give or take a unit of time. So a variable frame rate gives even samples, a
    rate above the video's own all frames, ten seconds at one a second ten, and none comes twice.
    """
    if wanted == ALL:
        yield from frames
    elif wanted == KEYFRAMES:
        # The first one too, which an edit list may have made an ordinary one: every video has a frame.
        yield from (each for number, each in enumerate(frames) if each[0].is_key or number == 0)
    else:
        yield from _nearest(frames, read_fps(wanted), Fraction(*time_base))


def _nearest(frames: Iterable[tuple[Candidate, T]], rate: Fraction, unit: Fraction) -> Iterator[tuple[Candidate, T]]:
    # In whole numbers: time since the first frame, in ticks, is pts * scale / parts.
    scale, parts = (rate * unit).as_integer_ratio()
    first: int | None = None
    best: tuple[Candidate, T] | None = None
    best_tick = best_distance = passed = shown = 0
    for each in frames:
        if first is None:
            first = each[0].pts
        before, passed = passed, (each[0].pts - first) * scale
        shown = passed - before  # how long the last one is shown is not told: as long as the one before it
        tick = -((parts - 2 * passed) // (2 * parts))  # halves go to the tick before
        # Times that were rounded may stand a unit on the wrong side of the border between two ticks: 30 frames a second
        # of 29.97 in milliseconds are all of them.
        if best is not None and tick == best_tick and 2 * (passed + scale) > (2 * tick + 1) * parts:
            tick += 1
        distance = abs(passed - tick * parts)
        if best is not None and tick != best_tick:
            yield best
            best = None
        if best is None or distance < best_distance:
            best, best_tick, best_distance = each, tick, distance
    # Where ticks stand close the end is none to look at: it is rounded too.
    if best is not None and (best_tick == 0 or parts <= 2 * shown or best_tick * parts < passed + shown):
        yield best
