"""The committed pictures among which near copies are looked for, in a file for the workers."""

from collections.abc import Sequence

import polars as pl

from pipelines.dataset import Dataset
from pipelines.planning import Plan
from schemas.reasons import Outcome
from transforms.near_copies import Known
from transforms.places import scratch_of

_COLUMNS = ("fingerprint", "image_id")


class KnownPictures:
    """The fingerprints of the pictures that stand, one file an epoch; each commit adds to those before it.

    Pictures that were committed without fingerprints are not among them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.known = Known.of([], [])
        self.learned = -1  # the last epoch

    def write(self, plan: Plan) -> str:
        """Write what is committed by now, but for what the plan takes back; return the path."""
        self._learn()
        known = self.known
        if plan.supersedes:
            known = known.without(self._ids_of(plan.supersedes))
        folder = scratch_of(self.dataset.path)
        path = folder / f"known-{plan.epoch:08d}"
        known.save(str(path))
        if known is self.known:
            self.known = Known.open(str(path))  # from now on in the file, not in memory
        for stale in folder.glob("known-*"):
            if stale.name.partition(".")[0] != path.name:
                stale.unlink()
        return str(path)

    def _learn(self) -> None:
        fresh = [manifest for manifest in self.dataset.manifests if manifest.epoch > self.learned]
        # What was folded meanwhile holds known pictures too.
        if any(manifest.told["supersedes"] or manifest.first <= self.learned for manifest in fresh):
            self.known, fresh = Known.of([], []), self.dataset.manifests
        if fresh:
            standing = _standing(Dataset.of(self.dataset.path, list(fresh)))
            self.known = self.known.add(*(standing[name].to_list() for name in _COLUMNS))
            self.learned = fresh[-1].epoch

    def _ids_of(self, keys: Sequence[str]) -> list[str]:
        images = self.dataset.scan("images").filter(pl.col("item_key").is_in(list(keys)))
        return images.select("image_id").collect()["image_id"].to_list()


def _standing(dataset: Dataset) -> pl.DataFrame:
    images = dataset.scan("images").filter(
        pl.col("fingerprint").is_not_null() & (pl.col("outcome") != Outcome.DUPLICATE.value)
    )
    return images.select(_COLUMNS).collect()
