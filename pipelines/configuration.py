"""What decides the content of a data set: two runs with equal configurations give equal bytes.

Inputs, outputs, runners, workers, batch sizes, devices and previews are not in it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import UsageError

NEWER: dict[str, Any] = {"landmarks": None, "frames": "all"}
"""What the configurations of earlier versions of annotate did not tell, with what held then."""


def completed(told: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as today's version tells it."""
    return told if "job" in told else NEWER | told


@dataclass(frozen=True)
class ModelChoice:
    """A model by its name, its weights' sha256 ('' where it has none), and the sha256 of its record's contract."""

    name: str
    sha256: str
    contract_sha256: str


@dataclass(frozen=True)
class Configuration:
    """The options that change results.

    `detect_size` is null for full size, `detect_threshold` for the record's own, `landmarks` for the detector's five.
    `frames` says which frames of a video are taken, as `transforms.sampling.pick` reads it.
    """

    detector: ModelChoice
    classifier: ModelChoice
    landmarks: ModelChoice | None
    frames: str
    tta: str
    detect_size: int | None
    detect_threshold: float | None
    min_face: int
    max_pixels: int
    max_bytes: int
    duplicates: str
    crops: bool
    vocabulary: tuple[str, ...]
    expectations: str

    def told(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values."""
        return dict(json.loads(json.dumps(asdict(self))))

    @property
    def hash(self) -> str:
        """The configuration's sha256 as 64 hex digits."""
        return configuration_hash(self.told())


def configuration_hash(told: dict[str, Any]) -> str:
    """Return the sha256 of a configuration in plain JSON values."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, one text a field: `min_face: 20 -> 40`."""
    return [
        f"{key}: {_shown(before.get(key))} -> {_shown(value)}" for key, value in now.items() if before.get(key) != value
    ]


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return f"{value['name']} (weights {value['sha256'][:8] or 'none'}, record {value['contract_sha256'][:8]})"
    return json.dumps(value)


def require_same(before: dict[str, Any] | None, now: dict[str, Any], output: str) -> None:
    """Raise `UsageError`, naming the difference, where a data set was made under another configuration."""
    if before is None or before == now:
        return
    raise UsageError(
        f"{output} was made under another configuration ({'; '.join(differences(before, now))}): use the same options, "
        "another --output, or --new-configuration to go on with the new one"
    )
