"""The supervisor: plan, run, commit, until nothing is left or a stop is asked for. One writer a data set."""

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

import polars as pl

from pipelines.configuration import completed
from pipelines.dataset import Dataset, Manifest
from pipelines.planning import pending
from pipelines.roots import Root
from schemas.errors import RunError, UsageError
from schemas.layout import EXPORTS, MANIFESTS, PLANS, REPORT, SHARD_NAME, TEMPORARY, epoch_file
from schemas.reasons import Outcome
from schemas.tables import CROPS, TABLES
from transforms import stopping
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


@contextmanager
def one_writer(output: Path) -> Iterator[None]:
    """Hold the data set's lock; raise `UsageError` where another run holds it. A killed run's lock falls by itself."""
    with _locked(output):
        yield


def _locked(output: Path) -> TextIO:
    """Return the open lock file, held; the folders of a data set are made if they are not there."""
    try:
        for folder in (TEMPORARY, PLANS, MANIFESTS):
            (output / folder).mkdir(parents=True, exist_ok=True)
        lock = (output / TEMPORARY / "lock").open("a+")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        raise UsageError(f"{output} is in use by another run ({holder}): wait for its end or stop it") from None
    except OSError as error:
        raise UsageError(f"cannot write to the folder {output}: {error.strerror}; name another --output") from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()}\n")
    lock.flush()
    return lock


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a clean stop: the running epoch is dropped, what is committed stays."""

    def stop(number: int, _frame: Any) -> None:
        stopping.request_stop()

    stopping.reset()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
) -> Iterator[Manifest]:
    """Yield the manifest of each epoch as it is committed; end early, without an error, on a request to stop.

    `run` runs one plan to its end, or raises `RunError`. A plan that an earlier run left `unfinished` comes first: it
    covers the same under the same names again.
    """
    while not stopping.stop_requested():
        plan, unfinished = unfinished, None
        if plan is None:
            epoch = dataset.manifests[-1].epoch + 1 if dataset.manifests else 1
            plan = planner.next(epoch)
            if plan is None:
                return
            _remember(dataset.path, plan)
        started = time.monotonic()
        for stale in _reports(dataset.path, plan):
            stale.unlink()
        _run_watched(run, plan, watch)
        if stopping.stop_requested():
            return  # the steps read no further: the epoch is dropped, its plan stays
        manifest = _commit(dataset, plan, identity, time.monotonic() - started)
        dataset.add(manifest)
        planner.add(manifest)
        yield manifest


def _remember(output: Path, plan: AnyPlan) -> None:
    if not create_exclusive(str(output / epoch_file(PLANS, plan.epoch)), plan.to_json()):
        raise RunError(f"epoch {plan.epoch} of {output} was planned by another run meanwhile: start again")


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
        "committed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    encoded = json.dumps(told, separators=(",", ":")).encode()
    if not create_exclusive(str(dataset.path / epoch_file(MANIFESTS, plan.epoch)), encoded):
        raise RunError(f"epoch {plan.epoch} of {dataset.path} was committed by another run meanwhile: start again")
    for report in reports:
        report.unlink(missing_ok=True)
    return Manifest(plan.epoch, json.loads(encoded))


def _reports(output: Path, plan: AnyPlan) -> list[Path]:
    return sorted((output / TEMPORARY).glob(f"{plan.epoch:08d}-*.json"))


def _outcomes(output: Path, tables: dict[str, list[dict[str, Any]]]) -> dict[str, int]:
    images = [str(output / file["path"]) for file in tables.get("images", [])]
    if not images:
        raise RunError("the epoch wrote no shard: nothing was committed; run again")
    told = (
        pl.scan_parquet(images, glob=False)
        .select(pl.col("outcome").cast(pl.String))
        .collect()["outcome"]
        .value_counts()
    )
    counted = dict(told.iter_rows())
    failed = sum(file["rows"] for file in tables["failures"])
    return {str(outcome): failed if outcome is Outcome.FAILED else counted.get(outcome, 0) for outcome in Outcome}


def collect_garbage(dataset: Dataset) -> None:
    """Remove what a killed run left behind: unfinished files, and shards that no manifest lists.

    The caller holds the lock.
    """
    for table in (*TABLES, CROPS):
        listed = {Path(path).name for path in dataset.files(table)}
        for path in (dataset.path / table).glob("*.parquet"):
            if SHARD_NAME.fullmatch(path.name) and path.name not in listed:
                path.unlink()
    for folder in (*TABLES, CROPS, PLANS, MANIFESTS, TEMPORARY, EXPORTS, REPORT):
        for path in (dataset.path / folder).rglob(f"{TEMP_PREFIX}*"):
            path.unlink()


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
