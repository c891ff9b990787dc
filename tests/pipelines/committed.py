"""Data sets without a run."""

import json
from pathlib import Path

from schemas.tables import Tables, parquet_bytes
from tests.builders import LABELS


def committed(folder: Path, *shards: Tables) -> Path:
    """Write a data set with one commit a shard, each with a root of its own; return its folder."""
    for epoch, shard in enumerate(shards):
        files = {}
        for name in ("images", "annotations"):
            path = folder / name / f"{epoch}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parquet_bytes(getattr(shard, name), {}))
            files[name] = [{"path": f"{name}/{epoch}.parquet", "size": path.stat().st_size}]
        manifest = {
            "tables": files,
            "labels": list(LABELS),
            "roots": [{"number": epoch, "name": f"root{epoch}", "marks": []}],
            "supersedes": [],
            "version": "0.1.0",
            "configuration_hash": "abc",
            "models": {},
        }
        path = folder / "_manifests" / f"{epoch:06d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(manifest))
    return folder
