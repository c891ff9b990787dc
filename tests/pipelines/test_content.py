"""What exports read of a data set is what stands in it, a shard at a time."""

import json
from pathlib import Path

import polars as pl

from pipelines.content import Shards
from pipelines.dataset import Dataset
from tests.builders import face, picture, tables
from tests.pipelines.committed import committed
from transforms.rules import clean


def one_commit(folder: Path, shards: int) -> Path:
    """Write a data set of one commit with some shards."""
    committed(folder, *(clean(tables(picture(f"{i}.jpg", face()), picture("x.jpg", root=i))) for i in range(shards)))
    manifests = sorted((folder / "_manifests").iterdir())
    told = [json.loads(path.read_bytes()) for path in manifests]
    files = {table: [file for each in told for file in each["tables"][table]] for table in ("images", "annotations")}
    manifests[0].write_text(json.dumps(told[0] | {"tables": files}))
    for path in manifests[1:]:
        path.unlink()
    return folder


def test_the_shards_are_the_data_set_in_order(tmp_path: Path) -> None:
    """Each with its own labels; they can be read again."""
    dataset = Dataset(one_commit(tmp_path, 3))
    shards = Shards(dataset)
    for table in ("images", "annotations"):
        parts = [getattr(shard, table) for shard in shards]
        assert len(parts) == 3
        assert pl.concat(parts).equals(dataset.scan(table).collect())
    assert all(set(shard.annotations["image_id"]) <= set(shard.images["image_id"]) for shard in shards)


def test_what_was_taken_back_is_in_no_shard(tmp_path: Path) -> None:
    """A later commit may take rows back."""
    committed(tmp_path, *(clean(tables(picture(f"{i}.jpg", face()))) for i in range(2)))
    [key] = Dataset(tmp_path).part(Dataset(tmp_path).manifests[0]).images["item_key"]
    last = tmp_path / "_manifests" / "000001.json"
    last.write_text(json.dumps(json.loads(last.read_bytes()) | {"supersedes": [key]}))
    shards = list(Shards(Dataset(tmp_path)))
    assert [shard.images["file_name"].to_list() for shard in shards] == [[], ["1.jpg"]]
    assert [shard.annotations.height for shard in shards] == [0, 1]
