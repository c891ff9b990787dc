"""Data sets on disk as jobs commit them, of hand-made tables."""

import json
from pathlib import Path
from typing import Any

from schemas.layout import MANIFESTS, PLANS, TEMPORARY, epoch_file, shard_number
from schemas.reasons import Outcome
from schemas.tables import CROPS, TABLES, Tables
from tests.builders import LABELS, column
from transforms.write import write_shard

METADATA = {"version": "0.3.0", "configuration_hash": "abc", "labels": list(LABELS)}


def commit(folder: Path, shard: Tables, **told: Any) -> Path:
    """Commit tables to a data set, which is begun if there is none; `told` is what the manifest says otherwise."""
    for name in (MANIFESTS, PLANS, TEMPORARY):
        (folder / name).mkdir(parents=True, exist_ok=True)
    epoch = len(list((folder / MANIFESTS).iterdir())) + 1
    wanted = (*TABLES, CROPS) if shard.crops.num_rows else TABLES
    report = folder / write_shard((shard_number(epoch, 0), shard, []), str(folder), wanted, METADATA)
    tables: dict[str, list[dict[str, Any]]] = {}
    for file in json.loads(report.read_bytes())["files"]:
        tables.setdefault(file.pop("table"), []).append(file)
    report.unlink()
    outcomes = {str(outcome): column(shard, "images", "outcome").count(outcome) for outcome in Outcome}
    outcomes[Outcome.FAILED] = shard.failures.num_rows
    manifest = {
        "epoch": epoch,
        "version": "0.3.0",
        "configuration": {"job": "clean"},
        "configuration_hash": "abc",
        "models": {},
        "labels": [],
        "roots": [{"number": epoch - 1, "name": f"root{epoch}", "marks": ["a", "b"]}],
        "items": sum(outcomes.values()),
        "outcomes": outcomes,
        "supersedes": [],
        "categories": ["cat", "dog", "bird"],
        "tables": tables,
        "seconds": 1.0,
        "committed_at": "2025-01-31T12:00:00Z",
    }
    (folder / epoch_file(MANIFESTS, epoch)).write_text(json.dumps(manifest | told))
    return folder
