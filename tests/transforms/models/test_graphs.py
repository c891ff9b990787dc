"""Graphs built from published weights give what the original frameworks give."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import RunError
from transforms.models import graphs, weights
from transforms.models.record import ModelRecord
from transforms.models.runtime import CPU, Net

Model = Callable[[str], ModelRecord]
Original = dict[str, NDArray[np.float32]]


def test_mini_xception_agrees_with_keras(model: Model, original: Original) -> None:
    """To 1e-5, on faces and on noise; measured 1.2e-6."""
    record = model("mini-xception")
    net = Net(graphs.mini_xception(weights.find(record), record.input), CPU, 8)
    (found,) = net.run(original["mini.pixels"][..., None], ["probabilities"])
    np.testing.assert_allclose(found, original["mini.probabilities"], atol=1e-5)


@pytest.mark.parametrize(("name", "outputs"), [("pnet", 2), ("rnet", 2), ("onet", 3)])
def test_mtcnn_agrees_with_tensorflow(name: str, outputs: int, model: Model, original: Original) -> None:
    """To 1e-5, PReLU rewritten and all; measured 2.6e-6."""
    record = model("mtcnn")
    net = Net(getattr(graphs, name)(weights.find(record), record.input), CPU, 8)
    names = ("face", "box", "points")[:outputs]
    for output, found in zip(names, net.run(original[f"{name}.pixels"], names), strict=True):
        np.testing.assert_allclose(found, original[f"{name}.{output}"], atol=1e-5)


def test_both_publications_of_mtcnn_hold_the_same_numbers(model: Model) -> None:
    """The installed package's pickles and face-api.js's shard, bit for bit."""
    record = model("mtcnn")
    assert record.weights is not None
    package = weights._package_folder(record.weights.sources[0])
    shard = weights.find(record)
    if not isinstance(package, Path) or shard.is_dir():
        pytest.skip("only one of the two is on this machine")
    one, other = graphs.read_mtcnn(package), graphs.read_mtcnn(shard)
    for net in one:
        pairs = [*zip(one[net].hidden, other[net].hidden, strict=True)]
        pairs += [(one[net].heads[width], other[net].heads[width]) for width in one[net].heads]  # type: ignore[misc]
        for mine, theirs in pairs:
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_shard_that_is_too_long_or_too_short_is_an_error(tmp_path: Path) -> None:
    """It is read whole or not at all."""
    with pytest.raises(RunError, match="expected 495850 numbers, got 495851"):
        graphs._from_shard(np.zeros(495_851, np.float32), tmp_path)


def test_a_pickle_makes_arrays_and_nothing_else() -> None:
    """A pickle that names a function is refused before the function is called."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("called",)

    with pytest.raises(pickle.UnpicklingError, match="only numpy arrays are admitted"):
        graphs.unpickle_arrays(pickle.dumps([Evil()]))
    with pytest.raises(pickle.UnpicklingError, match="expected a list of numpy arrays"):
        graphs.unpickle_arrays(pickle.dumps([1, 2]))


def test_a_pickle_of_joblib_is_read_as_joblib_reads_it() -> None:
    """In both memory orders."""
    joblib = pytest.importorskip("joblib")
    arrays = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(8, dtype=np.float32).reshape(4, 2)),
    ]
    stream = io.BytesIO()
    joblib.dump(arrays, stream)
    for found, expected in zip(graphs.unpickle_arrays(stream.getvalue()), arrays, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_graph_is_built_once(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it comes from the cache; another contract is another graph."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    record = model("expression8")
    built: list[int] = []

    def build() -> bytes:
        built.append(1)
        return b"graph"

    first = graphs.cached("net", record, build)
    assert isinstance(first, Path) and first.read_bytes() == b"graph"
    assert graphs.cached("net", record, build) == first and len(built) == 1


def test_an_unwritable_cache_is_no_error(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is used from memory."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert graphs.cached("net", model("expression8"), lambda: b"graph") == b"graph"
