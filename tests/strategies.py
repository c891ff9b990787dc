"""Random tables for properties: mostly sensible pictures, with the faults that detectors and files have."""

from typing import Any

from hypothesis import strategies as st

from schemas.tables import Tables
from tests.builders import face, picture, tables

WIDTH, HEIGHT = 97, 61  # odd numbers, that no box divides well

_coordinate = st.one_of(
    st.floats(-40, 140, width=32),
    st.sampled_from([0.0, float("nan"), float("inf"), WIDTH - 0.004, HEIGHT + 0.004]),
)
_side = st.one_of(st.floats(0.5, 120, width=32), st.sampled_from([0.0, -3.0, 1.0, float("nan")]))
_name = st.sampled_from(["a.jpg", "b/a.jpg", "b.jpg", "ünï\n\"'.png", "back\\slash.jpg", "b-1/a.jpg"])


@st.composite
def faces(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a face: a box anywhere, now and then without one."""
    box = draw(st.one_of(st.tuples(_coordinate, _coordinate, _side, _side), st.just((None,) * 4)))
    score = draw(st.one_of(st.none(), st.floats(0, 1, width=32)))
    return face(box, score=score, label=draw(st.sampled_from(["happy", "sad", "neutral"])))


@st.composite
def pictures(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw some pictures of two roots, each name once in a root; a duplicate now and then."""
    drawn = []
    for name, root in draw(st.lists(st.tuples(_name, st.integers(0, 1)), unique=True, max_size=6)):
        given = draw(st.lists(faces(), max_size=4))
        copy = {"outcome": "duplicate", "duplicate_of": "0" * 64} if not given and draw(st.booleans()) else {}
        drawn.append(picture(name, *given, width=WIDTH, height=HEIGHT, root=root, **copy))
    return drawn


def shards() -> st.SearchStrategy[Tables]:
    """Draw one shard."""
    return pictures().map(lambda drawn: tables(*drawn))


@st.composite
def datasets(draw: st.DrawFn) -> list[Tables]:
    """Draw a data set of up to three shards."""
    drawn = draw(pictures())
    first, second = sorted(draw(st.tuples(st.integers(0, 6), st.integers(0, 6))))
    return [tables(*drawn[:first]), tables(*drawn[first:second]), tables(*drawn[second:])]
