"""What the sections of the page are made from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.dataset import Dataset
from pipelines.report.numbers import Numbers
from pipelines.report.tallies import Tallies
from schemas.reasons import Outcome
from transforms.places import Place

MAX_BYTES = 4 << 20
"""Of what another job or a person wrote beside the page."""


@dataclass(frozen=True)
class Told:
    """What is known of a data set: its summary, its numbers, its last commit; and of a cleaned one what rules did."""

    summary: Mapping[str, Any]
    numbers: Numbers
    dataset: Dataset
    tallies: Tallies | None = None

    @property
    def last(self) -> Mapping[str, Any]:
        """The last manifest's JSON; empty where nothing is committed."""
        return self.dataset.manifests[-1].told if self.dataset.manifests else {}

    @property
    def categories(self) -> tuple[str, ...]:
        """The labels that may stand in a cleaned data set, as its last commit knows them."""
        return tuple(name for name in self.last.get("categories") or () if isinstance(name, str))

    @property
    def thing(self) -> str:
        """What the rows of the annotations are: faces that a detector found, or labels that came in files."""
        return "face" if self.tallies is None else "label"

    def outcome(self, *which: Outcome) -> int:
        """Return how many items ended so."""
        return sum(self.summary["outcomes"].get(str(each), 0) for each in which)

    @property
    def looked_at(self) -> int:
        """How many pictures were looked at for faces, each kept one once."""
        return self.outcome(Outcome.LABELLED, Outcome.NO_FACE)


def read_object(path: Place) -> dict[str, Any] | None:
    """Return a JSON object; null where there is none that can be read, or it is of more than MAX_BYTES."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        told = json.loads(text) if len(text) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
