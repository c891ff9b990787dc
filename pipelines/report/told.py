"""What the sections of the page are made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.dataset import Dataset
from pipelines.report.numbers import Numbers
from schemas.reasons import Outcome


@dataclass(frozen=True)
class Told:
    """What is known of a data set: its summary, its numbers, and its last commit."""

    summary: Mapping[str, Any]
    numbers: Numbers
    dataset: Dataset

    @property
    def last(self) -> Mapping[str, Any]:
        """The last manifest's JSON; empty where nothing is committed."""
        return self.dataset.manifests[-1].told if self.dataset.manifests else {}

    def outcome(self, *which: Outcome) -> int:
        """Return how many items ended so."""
        return sum(self.summary["outcomes"].get(str(each), 0) for each in which)

    @property
    def looked_at(self) -> int:
        """How many pictures were looked at for faces, each kept one once."""
        return self.outcome(Outcome.LABELLED, Outcome.NO_FACE)
