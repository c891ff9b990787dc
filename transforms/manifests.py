"""Read the manifests of a data set as they are at one moment, while a run may add some and fold others."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from schemas.errors import ItemError, RunError, UsageError
from schemas.layout import MANIFESTS, epochs_of, standing_manifests
from transforms.places import Place, Prefix, place

T = TypeVar("T")

_TRIES = 100
_PAUSE_S = 0.01
_AT_ONCE = 16


def read_standing(dataset: str | Place, read: Callable[[Place], T]) -> list[tuple[int, T]]:
    """Return what `read` makes of each manifest that counts, with its last epoch, in order.

    A listing is no snapshot: it may miss a folded manifest that was made meanwhile, and what was then removed. So the
    folder is listed again behind the reading; only commits may have come. Raises what `read` raises, and RunError.
    """
    folder = place(dataset) / MANIFESTS
    for _ in range(_TRIES):
        names = _standing(folder)
        failure: Exception | None = None
        found: list[tuple[int, T]] = []
        try:
            found += zip(map(_last, names), _each(folder, names, read), strict=True)
        except (ItemError, RunError, UsageError) as error:
            failure = error
        if _standing(folder)[: len(names)] == names:
            if failure is not None:
                raise failure
            return found
        time.sleep(_PAUSE_S)
    raise RunError(f"{folder} changes faster than it can be read: try again")


def _standing(folder: Place) -> list[str]:
    try:
        return standing_manifests(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []


def _each(folder: Place, names: list[str], read: Callable[[Place], T]) -> list[T]:
    if not isinstance(folder, Prefix):
        return [read(folder / name) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # each waits for its answer
        return list(pool.map(lambda name: read(folder / name), names))


def _last(name: str) -> int:
    span = epochs_of(name)
    assert span is not None  # only such names stand
    return span[1]
