"""What a data set holds and what a run added, in numbers: report/summary.json and the last lines of a run."""

import json
import time
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest
from schemas.reasons import Outcome, Rule
from transforms import clock
from transforms.places import Place
from transforms.storage import write_atomic


class Run:
    """Counts what one run adds; `started` is a `time.monotonic()`."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.outcomes = dict.fromkeys(map(str, Outcome), 0)

    def add(self, manifest: Manifest) -> None:
        """Count one commit."""
        for outcome, count in manifest.told["outcomes"].items():
            self.outcomes[outcome] += count

    @property
    def items(self) -> int:
        """How many items the run did."""
        return sum(self.outcomes.values())

    def exit_code(self, max_failure_rate: float | None) -> int:
        """Return 1 where every new item failed, or more of them than the rate allows; else 0.

        A rate that is given decides alone: with 1 a run in which all items failed is still a success.
        """
        failed = self.outcomes[Outcome.FAILED]
        if max_failure_rate is not None:
            return int(failed > max_failure_rate * self.items)
        return int(0 < self.items == failed)


def summarise(dataset: Dataset, run: Run, skipped: int, configuration_hash: str) -> dict[str, Any]:
    """Return the data set's counts by outcome and rule, and what this run did."""
    models = dataset.info.get("models", {})
    outcomes = dict.fromkeys(map(str, Outcome), 0)
    images = dataset.scan("images")
    outcomes |= dict(images.group_by("outcome").len().collect().iter_rows())
    outcomes[Outcome.FAILED] = dataset.scan("failures").select(pl.len()).collect().item()
    annotations = dataset.scan("annotations")
    return {
        "items": sum(outcomes.values()),
        "outcomes": outcomes,
        "skipped": skipped,
        "annotations": annotations.select(pl.len()).collect().item(),
        "labels": dict(annotations.group_by("label").len().sort("label").collect().iter_rows()),
        "small_faces": images.select(pl.col("small_faces").sum()).collect().item() or 0,
        "rules": _rules(dataset),
        "errors": dict(dataset.scan("failures").group_by("error").len().sort("error").collect().iter_rows()),
        "detector": models.get("detector", {}).get("name"),
        "classifier": models.get("classifier", {}).get("name"),
        "configuration_hash": configuration_hash,
        "this_run": {
            "items": run.items,
            "outcomes": run.outcomes,
            "seconds": round(time.monotonic() - run.started, 3),
        },
        "steps": clock.seconds(),
    }


def _rules(dataset: Dataset) -> dict[str, int]:
    """Count how often each rule held a row back or changed one; of copies each picture once, not its labels."""
    of_copies = (pl.col("kind") == "annotation") & pl.col("rule").str.starts_with("duplicate.")
    changes = dataset.scan("changes").filter(~of_copies)
    held = dataset.scan("quarantine").filter(~(of_copies & (pl.col("field") == "duplicate_of")))
    hits = pl.concat([held.select("rule"), changes.select("rule")])
    counted = dict(hits.group_by("rule").len().sort("rule").collect().iter_rows())
    copies = dataset.scan("images").filter(pl.col("outcome") == Outcome.DUPLICATE).select(pl.len()).collect().item()
    told = changes.filter(pl.col("field") == "duplicate_of").select(pl.len()).collect().item()
    # Copies of the same bytes that annotate finds are no change: they were never looked at.
    exact = copies - told + counted.get(Rule.DUPLICATE_EXACT, 0)
    return dict(sorted((counted | ({Rule.DUPLICATE_EXACT.value: exact} if exact else {})).items()))


def write_summary(dataset: Dataset, told: dict[str, Any]) -> None:
    """Write report/summary.json."""
    write_atomic(str(dataset.path / "report" / "summary.json"), json.dumps(told, indent=2, ensure_ascii=False).encode())


def write_missing(dataset: Dataset, missing: pl.DataFrame | None) -> None:
    """Write report/missing.jsonl: committed files that are no longer there; null leaves what was told before."""
    if missing is None:
        return
    names = dataset.roots
    rows = ({**row, "root": names.get(row["root"])} for row in missing.iter_rows(named=True))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(str(dataset.path / "report" / "missing.jsonl"), text.encode())


def last_lines(told: dict[str, Any], output: Place) -> list[str]:
    """Return what a run says at its end: the result's place, what this run added, and the data set's counts."""
    run, outcomes = told["this_run"], told["outcomes"]
    rate = run["items"] / run["seconds"] if run["seconds"] else 0.0
    labels = ", ".join(f"{count} {label}" for label, count in sorted(told["labels"].items(), key=lambda pair: -pair[1]))
    lines = [
        f"data set: {output} (tables in Parquet, exports/, report/summary.json); {told['skipped']} files skipped",
        f"faces: {told['annotations']} labelled ({labels or 'none'}), {told['small_faces']} under the least size"
        if told["detector"]
        else f"labels: {told['annotations']} ({labels or 'none'})",
    ]
    if told["rules"]:
        lines.append("rules: " + ", ".join(f"{rule} {count}" for rule, count in told["rules"].items()))
    if told["errors"]:
        lines.append("failures: " + ", ".join(f"{error} {count}" for error, count in told["errors"].items()))
    if told.get("missing"):
        lines.append(f"missing: {told['missing']:,} labelled files are no longer there (report/missing.jsonl)")
    added = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in run["outcomes"].items())
    lines.append(f"this run: {run['items']} items ({added})")
    lines.append(
        f"{told['items']} items: {outcomes['labelled']} labelled, {outcomes['no_face']} no face, "
        f"{outcomes['duplicate']} duplicate, {outcomes['quarantined']} quarantined, {outcomes['failed']} failed "
        f"in {run['seconds']:.1f} s ({rate:.1f} items/s)"
    )
    return lines
