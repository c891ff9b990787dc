"""What decides the content of a cleaned data set: two runs with equal configurations give equal bytes."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.configuration import configuration_hash

RULES = "1"
"""Changes when a cleaning rule does: then the same input is judged otherwise."""


@dataclass(frozen=True)
class CleanConfiguration:
    """The options of `pipelines.clean` that change results.

    `vocabulary` is the sha256 of the vocabulary's names and aliases, or "from-source"; `own_expectations` and `suspect`
    are sha256s of the person's suite and of the model, null where there are none.
    """

    vocabulary: str
    codes: str | None
    bbox_format: str | None
    duplicates: str
    mirrored: bool
    max_pixels: int
    max_bytes: int
    expectations: str
    own_expectations: str | None
    suspect: str | None
    rules: str = RULES
    job: str = "clean"

    def told(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return dict(json.loads(json.dumps(asdict(self))))

    @property
    def hash(self) -> str:
        """The configuration's sha256 as 64 hex digits."""
        return configuration_hash(self.told())
