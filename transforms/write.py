"""Write: one Parquet file a table and shard, under names that depend on the plan alone."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.layout import report_path, shard_path
from schemas.tables import parquet_bytes
from transforms.clock import clocked
from transforms.shards import write_shard_file
from transforms.storage import write_atomic
from transforms.validate import Judged


@dataclass(frozen=True)
class ShardFile:
    """A written Parquet file; `path` is relative to the data set, `size` in bytes."""

    table: str
    path: str
    rows: int
    size: int
    sha256: str


def write_shard(judged: Judged, root: str, wanted: tuple[str, ...], metadata: Mapping[str, Any]) -> str:
    """Write the shard's tables under `root`, then its report; return the report's path.

    A replay of the same plan writes the same bytes to the same names. Nothing is visible before the manifest.
    """
    shard, tables, validation = judged
    files = []
    with clocked("write"):
        for name, table in tables.named():
            if name not in wanted:
                continue
            data = parquet_bytes(table, metadata)
            path = shard_path(name, shard)
            write_shard_file(f"{root}/{path}", data)
            files.append(ShardFile(name, path, table.num_rows, len(data), hashlib.sha256(data).hexdigest()))
        report = report_path(shard)
        told = {"files": [asdict(file) for file in files], "validation": validation}
        write_atomic(f"{root}/{report}", json.dumps(told).encode())
    return report


@dataclass
class Write(beam.PTransform):
    """Write shards of the tables `wanted` below `root`; `metadata` goes into every footer."""

    root: str
    wanted: tuple[str, ...]
    metadata: Mapping[str, Any]

    def expand(self, shards: PCollection[Judged]) -> PCollection[str]:
        """Return the paths of the shards' reports."""
        write = beam.Map(write_shard, self.root, self.wanted, self.metadata)
        return shards | "Write Parquet" >> write.with_output_types(str)
