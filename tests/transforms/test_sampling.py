"""Which frames are wanted: even samples of whatever rate."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.errors import UsageError
from transforms.sampling import ALL, KEYFRAMES, Candidate, pick, read_fps

Unit = tuple[int, int]

RATES = st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60)])
ANY_RATE = st.fractions(Fraction(1, 50), 1000, max_denominator=1001)
UNITS = st.sampled_from([(1, 1000), (1, 90000), (1, 12800), (1, 600), (1001, 30000)])
UNEVEN = st.lists(st.integers(1, 5000), min_size=1, max_size=60)


def chosen(times: Sequence[int], wanted: str, unit: Unit, keys: Sequence[int] = ()) -> list[int]:
    """Return the PTS of the chosen ones, and see that what came along stayed with them."""
    frames = ((Candidate(pts, pts in keys), pts) for pts in times)
    picked = list(pick(frames, wanted, unit))
    assert all(candidate.pts == carried for candidate, carried in picked)
    return [carried for _, carried in picked]


def shown_at(rate: Fraction, unit: Unit, count: int, start: int) -> list[int]:
    """Return when frames of an even rate are shown, rounded to the unit; some formats know only milliseconds."""
    return [round((start + number) / rate / Fraction(*unit)) for number in range(count)]


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5", Fraction(5)), ("0.5", Fraction(1, 2)), ("1/3", Fraction(1, 3)), ("30000/1001", Fraction(30000, 1001))],
)
def test_rates_are_read_exactly(text: str, rate: Fraction) -> None:
    """As a number, with a point, or as a fraction."""
    assert read_fps(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "1001", "fast", "1/0", "nan", "inf", "all "])
def test_nonsense_for_a_rate_is_misuse(text: str) -> None:
    """The message shows what came."""
    with pytest.raises(UsageError, match="frames a second"):
        read_fps(text)


def test_all_are_all_and_key_frames_the_key_frames() -> None:
    """And the first frame, whatever it is: every video has one."""
    assert chosen([3, 5, 9], ALL, (1, 25)) == [3, 5, 9]
    assert chosen([3, 5, 9, 12], KEYFRAMES, (1, 25), keys=[5, 12]) == [3, 5, 12]
    for wanted in (ALL, KEYFRAMES, "5"):
        assert chosen([], wanted, (1, 25)) == []


def test_one_a_second_of_25() -> None:
    """The first frame, and each that stands a second on: four of four seconds, though the last is almost a fifth."""
    assert chosen(range(100, 200), "1", (1, 25)) == [100, 125, 150, 175]
    assert chosen(range(100, 201), "1", (1, 25)) == [100, 125, 150, 175, 200]


def test_each_tick_has_its_nearest_frame() -> None:
    """At one a second: 900 ms is nearer to the first second than 1,200; between 1.5 and 2.5 s there is none."""
    assert chosen([0, 400, 900, 1200, 2600, 3000], "1", (1, 1000)) == [0, 900, 3000]


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12), UNEVEN, ANY_RATE, UNITS)
def test_no_frame_nearer_to_a_tick_is_left_out(start: int, gaps: list[int], rate: Fraction, unit: Unit) -> None:
    """Every tick with a frame within half a distance has one, and none is nearer by more than a unit."""
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    distance = 1 / rate / Fraction(*unit)
    picked = chosen(times, str(rate), unit)
    number = 0
    while (tick := start + number * distance) < times[-1] and number < 500:
        nearest = min(abs(pts - tick) for pts in times)
        if nearest < distance / 2 - 1:
            assert min(abs(pts - tick) for pts in picked) <= nearest + 1
        number += 1


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12), UNEVEN, ANY_RATE, UNITS)
def test_never_more_than_were_asked_for(start: int, gaps: list[int], rate: Fraction, unit: Unit) -> None:
    """One for each tick between the first frame and the last; none twice, in their order."""
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    picked = chosen(times, str(rate), unit)
    assert picked[0] == start
    assert sorted(set(picked)) == picked
    assert set(picked) <= set(times)
    seconds = (2 * times[-1] - times[-2] - start) * Fraction(*unit)  # the last one is shown as long as that before
    assert len(picked) <= max(1, math.ceil((seconds + Fraction(*unit)) * rate))


@settings(deadline=None)
@given(RATES, UNITS, st.integers(1, 300), st.integers(0, 10**5), st.fractions(1, 4, max_denominator=1000))
@example(Fraction(30000, 1001), (1, 1000), 300, 0, Fraction(1001, 1000))
@example(Fraction(24000, 1001), (1001, 30000), 8, 1, Fraction(1))
def test_a_rate_above_the_own_takes_every_frame(
    own: Fraction, unit: Unit, count: int, start: int, factor: Fraction
) -> None:
    """Also with times rounded to milliseconds: 30 a second of 29.97 are all."""
    times = shown_at(own, unit, count, start)
    if len(set(times)) == count and own * factor <= 1000:
        assert chosen(times, str(own * factor), unit) == times


@settings(deadline=None)
@given(RATES, UNITS, st.integers(200, 400), st.fractions(Fraction(1, 50), Fraction(9, 10), max_denominator=1000))
def test_a_rate_below_the_own_is_kept(own: Fraction, unit: Unit, count: int, factor: Fraction) -> None:
    """As many frames as the rate says, evenly."""
    times = shown_at(own, unit, count, 0)
    if len(set(times)) == count:
        picked = chosen(times, str(own * factor), unit)
        seconds = (times[-1] - times[0]) * Fraction(*unit)
        assert abs(len(picked) - seconds * own * factor) <= 2 + own * Fraction(*unit)
        gaps = np.diff(picked).tolist()[:-1]  # the tick of the last one may be behind it
        assert all(abs(gap * Fraction(*unit) - 1 / (own * factor)) <= 1 / own + 3 * Fraction(*unit) for gap in gaps)


def test_frames_are_chosen_while_they_come() -> None:
    """One is given out as soon as the next tick's first has come: nothing waits for the end."""
    taken: list[int] = []

    def frames() -> Iterator[tuple[Candidate, int]]:
        for pts in range(0, 10_000, 40):
            taken.append(pts)
            yield Candidate(pts, False), pts

    picked = pick(frames(), "1", (1, 1000))
    assert next(picked)[1] == 0
    assert taken[-1] <= 560
    assert next(picked)[1] == 1000
    assert taken[-1] <= 1560
