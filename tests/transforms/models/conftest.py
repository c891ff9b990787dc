"""Weights and pictures for the models' tests."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.models.record import RECORDS, ModelRecord, load_record
from transforms.models.weights import WeightsMissing, find

NEAR = Path(__file__).resolve().parents[4] / "shared" / "models"


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share, so that graphs are built once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _home(graph_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take weights from the folder beside the repository if nothing else is named; keep out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(graph_cache))
    if "LABELSTREAM_MODELS" not in os.environ and NEAR.is_dir():
        monkeypatch.setenv("LABELSTREAM_MODELS", str(NEAR))


@pytest.fixture
def model() -> Callable[[str], ModelRecord]:
    """Return a record whose weights are on this machine; without them a test is skipped, in CI it fails."""

    def get(name: str) -> ModelRecord:
        record = load_record(name)
        try:
            for part in record.parts:
                find(part)
        except WeightsMissing as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))
        return record

    return get


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """The golden picture: (192, 192, 3) RGB, one face of about 91x111 px at 68, 25."""
    with np.load(RECORDS / "expression8.npz") as stored:
        return np.asarray(stored["picture"])


@pytest.fixture(scope="session")
def original() -> dict[str, NDArray[np.float32]]:
    """What the nets gave in the frameworks they were trained in; see make_golden.py."""
    with np.load(Path(__file__).parent / "data" / "nets.npz") as stored:
        return dict(stored)
