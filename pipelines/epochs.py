"""The supervisor: plan, run, commit, until nothing is left or a stop is asked for. One writer a data set."""

import fcntl
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TextIO, TypeVar

import polars as pl

from pipelines.configuration import completed
from pipelines.dataset import Dataset, Manifest
from pipelines.folding import clear_away, unlisted
from pipelines.lease import Lease
from pipelines.planning import pending
from pipelines.roots import Root
from schemas.errors import RunError, UsageError
from schemas.layout import EXPORTS, INDEX, MANIFESTS, PLANS, REPORT, SHARD_NAME, TEMPORARY, epoch_file, epochs_of
from schemas.reasons import Outcome
from schemas.tables import CROPS, TABLES
from transforms import stopping
from transforms.buckets.uploads import give_up_uploads
from transforms.places import Place, Prefix
from transforms.shards import scan_shards
from transforms.storage import TEMP_PREFIX, create_exclusive
from validation.suites import merged


class AnyPlan(Protocol):
    """Exactly what one epoch covers; made durable before it runs."""

    @property
    def epoch(self) -> int: ...
    @property
    def configuration(self) -> dict[str, Any]: ...
    @property
    def roots(self) -> Sequence[Root]: ...
    @property
    def supersedes(self) -> Sequence[str]: ...

    def behind(self, part: int) -> Self:
        """Return the same plan with other shards than those up to this number."""

    def owns(self, part: int) -> bool:
        """Tell whether the epoch's shard of this number is this plan's, or of another that it was planned as before."""

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""

    def require_whole(self, outcomes: Mapping[str, int], shards: Mapping[str, list[str]]) -> dict[str, Any]:
        """Raise `RunError` where something planned is in no table; return what the manifest says beside the usual.

        `shards` are the paths of the tables' files.
        """


P = TypeVar("P", bound=AnyPlan)
P_co = TypeVar("P_co", bound=AnyPlan, covariant=True)


class AnyPlanner(Protocol[P_co]):
    """Makes the plans of a run, one at a time."""

    def next(self, epoch: int) -> P_co | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""

    def add(self, manifest: Manifest) -> None:
        """Take in a commit."""


Watch = Callable[[], None]
"""Called several times a second while an epoch runs, to draw progress."""


@dataclass(frozen=True)
class Hold:
    """What a run holds a data set by: the lock file below `output` with what it wrote there, or in a bucket a lease."""

    output: Path | None
    name: str
    lease: Lease | None = None

    def require(self) -> None:
        """Raise `RunError` where another run has taken the data set over meanwhile."""
        if self.output is None:
            assert self.lease is not None
            self.lease.require()
            return
        found = _lock_file(self.output).read_text() if _lock_file(self.output).exists() else "nobody"
        if found != self.name:
            raise RunError(
                f"{self.output} was taken over by another run ({found.strip()}): this one stops. What is committed "
                "stands"
            )


@contextmanager
def one_writer(output: Place, *, take_over: bool = False) -> Iterator[Hold]:
    """Hold the data set's lock; raise `UsageError` where another run holds it. A killed run's lock falls by itself.

    With `take_over` one that hangs, or stands on a machine that is gone, is shut out: whatever it does when it wakes is
    refused.
    """
    name = f"process {os.getpid()}, on {platform.node()}, run {secrets.token_hex(8)}\n"
    if isinstance(output, Prefix):
        lease = Lease(output / TEMPORARY / "lock", name)
        try:
            lease.take(take_over)
        except OSError as error:
            raise UsageError(f"cannot write to {output}: {error.strerror}") from None
        try:
            yield Hold(None, name, lease)
        finally:
            lease.release()
        return
    lock = _locked(output, take_over)
    with lock:
        hold = Hold(output, name)
        lock.truncate(0)
        lock.write(hold.name)
        lock.flush()
        yield hold


def _lock_file(output: Path) -> Path:
    return output / TEMPORARY / "lock"


def _locked(output: Path, take_over: bool) -> TextIO:
    """Return the open lock file, held; the folders of a data set are made if they are not there."""
    try:
        for folder in (TEMPORARY, PLANS, MANIFESTS):
            (output / folder).mkdir(parents=True, exist_ok=True)
        if take_over:
            _lock_file(output).unlink(missing_ok=True)
        lock = _lock_file(output).open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().split(",")[0].strip() or "unknown"
        raise UsageError(f"{output} is in use by another run ({holder}): wait for its end or stop it") from None
    except OSError as error:
        raise UsageError(f"cannot write to the folder {output}: {error.strerror}; name another --output") from None
    return lock


@dataclass(frozen=True)
class Identity:
    """What a manifest says of the code that made it; nothing of this changes the rows."""

    version: str
    labels: tuple[str, ...]
    models: dict[str, Any]
    configuration_hash: str


def run_epochs(
    dataset: Dataset,
    planner: AnyPlanner[P],
    run: Callable[[P], None],
    identity: Identity,
    watch: Watch,
    unfinished: P | None = None,
    require_ours: Callable[[], None] = lambda: None,
) -> Iterator[Manifest]:
    """Yield the manifest of each epoch as it is committed; end early, without an error, on a request to stop.

    `run` runs one plan to its end, or raises `RunError`. A plan that an earlier run left `unfinished` comes first: it
    covers the same under the same names again. `require_ours` raises where another run took the data set over.
    """
    while not stopping.stop_requested():
        plan, unfinished = unfinished, None
        if plan is None:
            epoch = dataset.manifests[-1].epoch + 1 if dataset.manifests else 1
            plan = planner.next(epoch)
            if plan is None:
                return
            require_ours()
            written = _last_part(dataset.path, plan.epoch)
            if written is not None:
                plan = plan.behind(written)
            _remember(dataset.path, plan)
        started = time.monotonic()
        for stale in _reports(dataset.path, plan):
            stale.unlink()
        _run_watched(run, plan, watch)
        if stopping.stop_requested():
            return  # the steps read no further: the epoch is dropped, its plan stays
        require_ours()
        manifest = _commit(dataset, plan, identity, time.monotonic() - started)
        dataset.add(manifest)
        planner.add(manifest)
        yield manifest


def _remember(output: Place, plan: AnyPlan) -> None:
    if not create_exclusive(str(output / epoch_file(PLANS, plan.epoch)), plan.to_json()):
        raise RunError(f"epoch {plan.epoch} of {output} was planned by another run meanwhile: start again")


GARBAGE_AGE_S = 24 * 60 * 60
"""How long what nobody lists stays in a bucket at least, in seconds."""


def _last_part(output: Place, epoch: int) -> int | None:
    """Return the number of the last shard that an epoch, planned otherwise by a run before, has left in a bucket.

    No lock can keep that run from writing on, should it only have slept: so what it wrote stays, and is not used. Of a
    folder nothing is left: its lock tells who is alive.
    """
    if not isinstance(output, Prefix):
        return None
    parts: list[int] = []
    for path in (output / "images").behind(f"{epoch:08d}-"):
        if epochs_of(path.name, SHARD_NAME) != (epoch, epoch):
            break
        parts.append(int(path.stem.split("-")[1]))
    return max(parts, default=None)


def _run_watched(run: Callable[[P], None], plan: P, watch: Watch) -> None:
    """Run the plan in a thread, so that this one can draw progress and take signals."""
    raised: list[Exception] = []

    def work() -> None:
        try:
            run(plan)
        except Exception as error:  # noqa: BLE001  it is raised again by the thread that waits
            raised.append(error)

    worker = threading.Thread(target=work, name=f"epoch-{plan.epoch}", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.1)
        watch()
    if raised and not stopping.stop_requested():
        raise raised[0]


def _commit(dataset: Dataset, plan: AnyPlan, identity: Identity, seconds: float) -> Manifest:
    """Check that the shards hold every planned item, then make them visible by one exclusive file."""
    reports = _reports(dataset.path, plan)
    told_by_shards = [json.loads(report.read_bytes()) for report in reports]
    files = [file for told in told_by_shards for file in told["files"]]
    tables: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        tables.setdefault(file.pop("table"), []).append(file)
    outcomes = _outcomes(dataset.path, tables)
    shards = {name: [str(dataset.path / file["path"]) for file in listed] for name, listed in tables.items()}
    more = plan.require_whole(outcomes, shards)
    told = {
        "epoch": plan.epoch,
        "version": identity.version,
        "configuration": plan.configuration,
        "configuration_hash": identity.configuration_hash,
        "models": identity.models,
        "labels": identity.labels,
        "roots": [asdict(root) for root in plan.roots],
        "items": sum(outcomes.values()),
        "outcomes": outcomes,
        "supersedes": plan.supersedes,
        "validation": merged(result for told in told_by_shards for result in told["validation"]),
        **more,
        "tables": tables,
        "seconds": round(seconds, 3),
        "writer": secrets.token_hex(8),  # two runs must never take one manifest for their own
        "committed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    encoded = json.dumps(told, separators=(",", ":")).encode()
    if not create_exclusive(str(dataset.path / epoch_file(MANIFESTS, plan.epoch)), encoded):
        raise RunError(f"epoch {plan.epoch} of {dataset.path} was committed by another run meanwhile: start again")
    for report in reports:
        report.unlink(missing_ok=True)
    return Manifest(plan.epoch, json.loads(encoded))


def _reports(output: Place, plan: AnyPlan) -> list[Place]:
    reports: list[Place] = sorted((output / TEMPORARY).glob(f"{plan.epoch:08d}-*.json"), key=str)
    return [report for report in reports if plan.owns(int(report.stem.split("-")[1]))]


def _outcomes(output: Place, tables: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    images = [str(output / file["path"]) for file in tables.get("images", [])]
    if not images:
        raise RunError("the epoch wrote no shard: nothing was committed; run again")
    told = scan_shards(images).select(pl.col("outcome").cast(pl.String)).collect()["outcome"].value_counts()
    counted = dict(told.iter_rows())
    failed = sum(file["rows"] for file in tables["failures"])
    return {str(outcome): failed if outcome is Outcome.FAILED else counted.get(outcome, 0) for outcome in Outcome}


def collect_garbage(dataset: Dataset) -> None:
    """Remove what a killed run left behind: unfinished files, and shards that no manifest lists.

    Those that a compaction replaced stay until their time is over. The caller holds the lock.
    """
    clear_away(dataset)
    if isinstance(dataset.path, Prefix):
        return  # see `collect_old_garbage`
    for path, replaced_by in unlisted(dataset):
        if replaced_by is None:
            path.unlink()
    for folder in (*TABLES, CROPS, PLANS, MANIFESTS, TEMPORARY, INDEX, EXPORTS, REPORT):
        for path in (dataset.path / folder).rglob(f"{TEMP_PREFIX}*"):
            path.unlink()


@dataclass(frozen=True)
class Garbage:
    """What was removed: files, their bytes, and uploads that were never completed."""

    files: int = 0
    bytes: int = 0
    uploads: int = 0


def collect_old_garbage(dataset: Dataset, hold: Hold) -> Garbage:
    """Remove what runs before have left behind in a bucket, for a day at least; return how much that was.

    These are shards that no manifest lists, reports of shards, and uploads that were never completed. How old they are
    is told by the store's clock alone. The caller holds the lock.
    """
    if hold.lease is None:
        return Garbage()  # of a folder nothing is left, see `collect_garbage`
    until = hold.lease.now_ns() - GARBAGE_AGE_S * 1_000_000_000
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    found: list[Place] = [path for path, replaced_by in unlisted(dataset) if replaced_by is None and _is_of(path, last)]
    found += (dataset.path / TEMPORARY).glob("[0-9]*.json")
    sizes = []
    for path in found:
        state = path.stat()
        if state.st_mtime_ns < until:
            sizes.append(state.st_size)
            path.unlink()
    return Garbage(len(sizes), sum(sizes), give_up_uploads(str(dataset.path), until))


def _is_of(shard: Place, last: int) -> bool:
    """Tell whether a shard is of an epoch that is committed; one that is not may be needed by the next run."""
    span = epochs_of(shard.name, SHARD_NAME)
    return span is not None and span[1] <= last


def forget_plan(dataset: Dataset) -> None:
    """Remove a plan that a killed run left; the caller holds the lock, and plans what it covered anew."""
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    for path in (dataset.path / PLANS).glob("[0-9]*.json"):
        if int(path.stem) > last:
            path.unlink()


def abandon_other_plan(dataset: Dataset, configuration: dict[str, Any]) -> None:
    """Remove a killed run's plan that was made under another configuration; the caller holds the lock."""
    plan = pending(dataset)
    if plan is not None and completed(plan.configuration) != configuration:
        (dataset.path / epoch_file(PLANS, plan.epoch)).unlink()


def standing_configuration(dataset: Dataset) -> dict[str, Any] | None:
    """Return the configuration of the last plan or commit, or None for a new data set."""
    plan = pending(dataset)
    if plan is not None:
        return completed(plan.configuration)
    return completed(dataset.manifests[-1].told["configuration"]) if dataset.manifests else None
