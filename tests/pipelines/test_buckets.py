"""Data sets in buckets, through every job: what is made there is what is made in a folder, and goes on there."""

import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import polars as pl
import pyarrow.dataset
import pyarrow.fs
import pytest

from pipelines import annotate, clean, compact, epochs, evaluate, export, lease, status
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from schemas.errors import RunError
from schemas.layout import MANIFESTS
from schemas.tables import CROPS, TABLES
from tests.buckets import S3, Azure, Gcs
from tests.extras import extra
from tests.pipelines.conftest import add_picture
from tests.pipelines.test_own_model import CONSTANTS, documented_record, net
from tests.pipelines.test_videos import film
from tests.stored import Stored, new_bucket, use
from transforms.buckets import objects, stores
from transforms.places import place
from transforms.storage import create_exclusive

QUICK = ["--detector", "none", "--classifier", "mini-xception"]


def annotated(output: Path | str, *inputs: Path | str, options: Sequence[str] = ()) -> int:
    """Label in this process and as fast as can be; return the exit code."""
    return labelled(output, *inputs, options=[*QUICK, *options])


def labelled(output: Path | str, *inputs: Path | str, options: Sequence[str] = ()) -> int:
    named = [word for each in inputs for word in ("--input", str(each))]
    return run_command(annotate.main, ["--runner=DirectRunner", *named, "--output", str(output), *options])


def outcomes(output: Path | str) -> dict[str, str]:
    """Return each item's outcome by its file name, which none has twice."""
    rows = [
        row
        for table, outcome in (("images", pl.col("outcome")), ("failures", pl.format("failed: {}", "error")))
        for row in Dataset(str(output)).scan(table).select("file_name", outcome).collect().rows()
    ]
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)


def tree(folder: Path | str) -> dict[str, bytes]:
    """Return all files of a data set by their names in it."""
    where = place(str(folder))
    return {str(path)[len(str(where)) + 1 :]: path.read_bytes() for path in where.rglob("*") if path.is_file()}


def tables(output: Path | str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that stand, in their order."""
    return {name: Dataset(str(output)).scan(name).collect().to_dicts() for name in TABLES}


def same(name: str, data: bytes) -> object:
    """Return what a file of a data set says without times, names of runs and places."""
    if name.startswith(("_manifests/", "_plans/")) or name == "report/summary.json":
        told = json.loads(data)
        for word in ("seconds", "writer", "committed_at", "steps", "roots", "planned_at", "tries"):
            told.pop(word, None)
        told.get("this_run", {}).pop("seconds", None)
        return told
    if name == "report/recipe.toml":
        return re.sub(rb'(?m)^output = ".*"', b"", data)
    if name == "report/index.html":
        return len(re.findall(rb"<svg", data)), re.findall(rb"<h2.*?</h2>", data)
    return data


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


@pytest.fixture(scope="module")
def kept(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `in` and its data set `out` of three commits, both to be copied to a bucket."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "in").mkdir()
    for number in range(4):
        add_picture(folder / "in", f"{number}.jpg", background=number % 3, left=60 + 40 * number)
    (folder / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    shutil.copy(folder / "in" / "0.jpg", folder / "in" / "copy.jpg")
    assert annotated(folder / "out", folder / "in", options=["--epoch-items", "2", "--crops"]) == 0
    assert len(Dataset(folder / "out").manifests) == 3
    yield folder


@pytest.fixture
def there(kept: Path, bucket: Stored) -> Stored:
    """A bucket with the pictures, and their data set, made there by a run of one's own."""
    bucket.put_folder(kept / "in", "in/")
    assert annotated(f"{bucket.uri}/out", f"{bucket.uri}/in", options=["--epoch-items", "2"]) == 0
    return bucket


# ---- annotate


def test_a_run_into_a_bucket_writes_what_one_into_a_folder_does(bucket: Stored, pictures: Path, tmp_path: Path) -> None:
    """Stills, frames, near copies, crops, preview, exports, report: byte by byte; a second run writes no table."""
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    shutil.copy(pictures / "portrait.png", pictures / "portrait copy.png")
    two = cv2.imread(str(pictures / "two.jpg"))
    assert two is not None
    cv2.imwrite(str(pictures / "two small.jpg"), cv2.resize(two, None, fx=0.7, fy=0.7))
    film(pictures / "clip.mp4", 12)
    options = ["--crops", "--preview", "6", "--duplicates", "near", "--epoch-items", "4", "--fps", "4"]
    out = f"{bucket.uri}/a b/out"
    assert labelled(tmp_path / "out", pictures, options=options) == 0
    assert labelled(out, pictures, options=options) == 0
    here, stored = tree(tmp_path / "out"), tree(out)
    others = {"_tmp/lock", "_index/names.arrow"}  # who holds it; where the roots are
    scratch = {name for name in here if name.startswith("_tmp/known-")}
    assert here.keys() - scratch == stored.keys()
    for name in stored.keys() - others:
        assert same(name, stored[name]) == same(name, here[name]), name
    made = {name.split("/")[0] for name in stored}
    assert {*TABLES, CROPS, "exports", "report"} <= made and "report/preview.png" in stored
    assert stored["_tmp/lock"] == b"nobody\n"
    assert labelled(out, pictures, options=options) == 0
    again = tree(out)
    assert {name for name in again.keys() | stored.keys() if again.get(name) != stored.get(name)} == {
        "report/summary.json",
        "report/index.html",
    }
    dataset = Dataset(out)
    dataset.verify()
    assert dataset.labels == Dataset(tmp_path / "out").labels
    assert [name.removeprefix(f"{out}/") for name in dataset.files("crops")] == [
        name.removeprefix(f"{tmp_path}/out/") for name in Dataset(tmp_path / "out").files("crops")
    ]


def test_a_run_goes_on_where_a_limit_ended_the_last(
    bucket: Stored, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As often as it takes; then nothing is left. What failed is tried again when asked; other options are refused."""
    bucket.put_folder(kept / "in", "in/")
    out, given = f"{bucket.uri}/out", f"{bucket.uri}/in/"
    assert annotated(out, given, options=["--dry-run"]) == 0
    assert "to do: 6 pictures" in capsys.readouterr().out and tree(out) == {}
    for done in (3, 6, 6):
        assert annotated(out, given, options=["--limit", "3"]) == 0
        assert len(outcomes(out)) == done
    assert len(Dataset(out).manifests) == 2
    assert outcomes(out) == outcomes(kept / "out")
    assert annotated(out, given, options=["--retry-failed"]) == 1  # all that it did has failed again
    [failure] = tables(out)["failures"]
    assert failure["attempts"] == 2
    capsys.readouterr()
    assert annotated(out, given, options=["--fps", "1"]) == 2
    assert "--new-configuration" in capsys.readouterr().err
    before = tables(out)
    bucket.put("in/new.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0")
    assert annotated(out, given, options=["--fps", "1", "--new-configuration"]) == 0
    assert len(outcomes(out)) == 7
    assert [row for row in tables(out)["images"] if row["file_name"] != "new.jpg"] == before["images"]


def test_a_missing_or_other_shard_stops_a_run(there: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is written; the file is named."""
    out = f"{there.uri}/out"
    name = Dataset(out).files("images")[0]
    data = objects.read(name, None, lambda size: None)
    for change, said in ((data[:-1], "bytes instead of"), (None, "is missing")):
        objects.remove(name)
        if change is not None:
            objects.put(name, change)
        with pytest.raises(RunError, match=said):
            Dataset(out).verify()
        capsys.readouterr()
        assert annotated(out, f"{there.uri}/in") == 1
        assert name in capsys.readouterr().err


def test_other_tools_read_it_by_themselves(there: Stored, s3: S3) -> None:
    """Polars with the environment alone, pyarrow's own client, pandas and DuckDB over it, name by name."""
    dataset = Dataset(f"{there.uri}/out")
    files = dataset.files("annotations")
    expected = dataset.scan("annotations").select("image_id", "label", "confidence").collect()
    assert expected.height == 4 and all(name.startswith("s3://") for name in files)
    natively = pl.scan_parquet(files).select("image_id", pl.col("label").cast(pl.String), "confidence").collect()
    assert natively.equals(expected)
    filesystem = pyarrow.fs.S3FileSystem(
        endpoint_override=s3.env["AWS_ENDPOINT_URL"],
        access_key=s3.env["AWS_ACCESS_KEY_ID"],
        secret_key=s3.env["AWS_SECRET_ACCESS_KEY"],
        region=s3.env["AWS_REGION"],
    )
    shards = pyarrow.dataset.dataset([name.removeprefix("s3://") for name in files], filesystem=filesystem)
    frame = shards.to_table(columns=["image_id", "label", "confidence"]).to_pandas()
    assert frame["label"].astype(str).tolist() == expected["label"].to_list()
    found = extra("duckdb").connect().sql("select label, count(*) from shards group by label order by label")
    counted = expected.group_by("label").len().sort("label")
    assert found.fetchall() == [(str(label), count) for label, count in counted.rows()]


# ---- only what is new


def missing(out: str) -> list[str]:
    told = place(f"{out}/report/missing.jsonl").read_text().splitlines()
    return [json.loads(line)["file_name"] for line in told]


def test_a_run_labels_what_is_new_there_and_nothing_else(
    there: Stored, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One more, another content, one gone, the same bytes anew: rows are superseded, and what is gone is told."""
    out, given = f"{there.uri}/out", f"{there.uri}/in"
    before = {row["file_name"]: row for row in tables(out)["images"]}
    assert missing(out) == []
    there.put("in/sub/new.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0")
    there.put("in/1.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0\0")
    there.delete("in/2.jpg")
    there.put("in/3.jpg", (kept / "in" / "3.jpg").read_bytes())
    capsys.readouterr()
    assert annotated(out, given) == 0
    said = capsys.readouterr().out
    assert "missing: 1 labelled files are no longer there (report/missing.jsonl)" in said
    told = json.loads(place(f"{out}/report/summary.json").read_bytes())
    assert told["missing"] == 1 and missing(out) == ["2.jpg"]
    after = {row["file_name"]: row for row in tables(out)["images"]}
    assert len(tables(out)["images"]) == len(after) == 6
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"1.jpg", "sub/new.jpg"}
    assert told["this_run"]["items"] == 2
    assert after["1.jpg"]["sha256"] != before["1.jpg"]["sha256"]
    assert after["3.jpg"]["sha256"] == before["3.jpg"]["sha256"]
    coco = json.loads(place(f"{out}/exports/annotations/instances.json").read_bytes())
    assert {image["file_name"] for image in coco["images"]} == after.keys() - {"copy.jpg"}
    count = len(Dataset(out).manifests)
    there.put("in/2.jpg", (kept / "in" / "2.jpg").read_bytes())
    assert annotated(out, given) == 0
    assert "missing:" not in capsys.readouterr().out and missing(out) == []
    assert annotated(out, given) == 0
    assert len(Dataset(out).manifests) <= count + 1


def test_a_data_set_is_no_input_of_its_own(there: Stored, kept: Path, pictures: Path) -> None:
    """Where the whole bucket is the input; what is beside it and begins as it is not its."""
    there.put("out-more/x.jpg", (pictures / "portrait.png").read_bytes())
    there.put("out/report/stray.jpg", (pictures / "two.jpg").read_bytes())
    out = f"{there.uri}/out"
    assert annotated(out, there.uri) == 0
    assert set(outcomes(out)) == {*outcomes(kept / "out"), "out-more/x.jpg"}
    assert json.loads(place(f"{out}/report/summary.json").read_bytes())["this_run"]["items"] == 1


# ---- status


def told_of(out: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run_command(status.main, ["--dataset", out, *words]) == 0
    return capsys.readouterr().out


def test_status_tells_how_far_it_is(there: Stored, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a run holds it and after, what is new in the bucket, and the story of one item; nothing is written."""
    out = f"{there.uri}/out"
    there.put("in/new.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0")
    before = tree(out)
    told = json.loads(told_of(out, capsys, "--json"))
    assert told["items"] == 6 and told["run"]["alive"] is False
    assert told["pending"]["files"] == 1 and told["pending"]["why_unknown"] in (None, "")
    text = told_of(out, capsys)
    assert text.startswith(f"{out}: 6 items") and "none works on it" in text and "1 files" in text
    story = told_of(out, capsys, "--item", "0.jpg")
    assert "epoch 1: labelled" in story
    assert "pending" in told_of(out, capsys, "--item", f"{there.uri}/in/new.jpg")
    assert tree(out) == before
    with epochs.one_writer(place(out)):
        told = json.loads(told_of(out, capsys, "--json"))
        assert told["run"]["alive"] is True and told["run"]["process"] == os.getpid()
        text = told_of(out, capsys)
        assert f"process {os.getpid()}" in text and "None" not in text
    assert "none works on it" in told_of(out, capsys)


def test_status_lists_the_inputs_of_a_list_in_a_bucket(there: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """The last run's `@` list is read again."""
    lines = "".join(f"{there.uri}/in/{name}\n" for name in ("0.jpg", "1.jpg"))
    given = "@" + there.put("list.txt", lines.encode())
    out = f"{there.uri}/listed"
    assert annotated(out, given) == 0
    assert set(outcomes(out)) == {"0.jpg", "1.jpg"}
    there.put("list.txt", f"{lines}{there.uri}/in/3.jpg\n".encode())
    assert json.loads(told_of(out, capsys, "--json"))["pending"]["files"] == 1


# ---- export and evaluate


def exported(*words: str | Path) -> int:
    return run_command(export.main, list(map(str, words)))


def test_exports_are_those_of_a_folder(
    there: Stored, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one file: here and there. Folders: here, with their pictures fetched; there they are refused."""
    out = f"{there.uri}/out"
    made = {}
    for form in ("coco", "jsonl", "cvat"):
        for number, where in enumerate((tmp_path / f"{form}.x", f"{there.uri}/made/{form}.x")):
            assert exported("--dataset", out, "--format", form, "--output", where) == 0
            made[form, number] = place(str(where)).read_bytes()
        assert made[form, 0] == made[form, 1]
    assert made["coco", 0] == place(f"{out}/exports/annotations/instances.json").read_bytes()
    assert exported("--dataset", out, "--format", "coco", "--output", f"{there.uri}/more/") == 0
    assert place(f"{there.uri}/more/annotations/instances.json").read_bytes() == made["coco", 0]
    words = ["--dataset", out, "--format", "label-studio", "--copy-images", "--output"]
    assert exported(*words, tmp_path / "folder") == 0
    copied = sorted(path.read_bytes() for path in (tmp_path / "folder").rglob("*.jpg"))
    assert copied and set(copied) <= {path.read_bytes() for path in (kept / "in").iterdir()}
    capsys.readouterr()
    assert exported(*words, f"{there.uri}/folder/") == 2
    assert "s3://" in capsys.readouterr().err
    there.put("in/1.jpg", b"another")
    there.delete("in/2.jpg")
    capsys.readouterr()
    assert exported(*words, tmp_path / "folder") == 0
    assert "2 pictures could not be copied" in capsys.readouterr().out


def test_a_yolo_export_has_its_pictures(bucket: Stored, pictures: Path, tmp_path: Path) -> None:
    """With boxes, of a data set and pictures in a bucket; as of a data set here."""
    bucket.put_folder(pictures, "in/")
    for given, out in ((pictures, tmp_path / "out"), (f"{bucket.uri}/in", f"{bucket.uri}/out")):
        assert labelled(out, given, options=["--classifier", "mini-xception", "--no-export"]) == 0
    made = []
    for name, out in (("here", tmp_path / "out"), ("there", f"{bucket.uri}/out")):
        words = ["--format", "yolo", "--copy-images", "--split", "train=.5,val=.5", "--output"]
        assert exported("--dataset", out, *words, tmp_path / name) == 0
        made.append({name: data for name, data in tree(tmp_path / name).items() if not name.startswith(".")})
    assert made[0].keys() == made[1].keys()
    assert {name for name in made[0] if made[0][name] != made[1][name]} <= {"data.yaml", "sources.csv"}
    assert sum(name.endswith((".png", ".jpg")) for name in made[1]) == 3


def test_a_labelled_video_is_drawn_from_a_bucket(
    bucket: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "clip.mp4", 12)
    clip = bucket.put("in/clip.mp4", (tmp_path / "clip.mp4").read_bytes())
    out = f"{bucket.uri}/out"
    assert annotated(out, clip, options=["--fps", "4"]) == 0
    words = ["--dataset", out, "--format", "video", "--output"]
    assert exported(*words, tmp_path / "a.mp4", "--input", clip) == 0
    assert exported(*words, tmp_path / "b.mp4", "--input", tmp_path / "clip.mp4") == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    capsys.readouterr()
    assert exported(*words, f"{bucket.uri}/c.mp4", "--input", clip) == 2
    assert "copy it from there" in capsys.readouterr().err


def test_labels_are_held_against_a_truth_in_a_bucket(there: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are the same, and stand in the data set's report there."""
    out = f"{there.uri}/out"
    rows = Dataset(out).scan("annotations").join(Dataset(out).scan("images"), on="image_id").collect()
    table = rows.select(file="file_name", label="label").write_csv()
    truth = there.put("truth.csv", table.encode())
    assert run_command(evaluate.main, ["--dataset", out, "--truth", truth, "--at-least", "accuracy=1"]) == 0
    told = json.loads(place(f"{out}/report/evaluation.json").read_bytes())
    assert told["overall"]["accuracy"]["value"] == 1 and told["truth"]["path"] == truth
    assert b"Evaluation" in place(f"{out}/report/index.html").read_bytes()
    there.put("truth.csv", re.sub(r"jpg,\w+\n", "jpg,disgust\n", table).encode())
    words = ["--truth", truth, "--at-least", "accuracy=1", "--output", f"{there.uri}/figures"]
    assert run_command(evaluate.main, ["--dataset", out, *words]) == 1
    assert "written: " + f"{there.uri}/figures" in capsys.readouterr().out
    assert json.loads(place(f"{there.uri}/figures/evaluation.json").read_bytes())["overall"]["accuracy"]["value"] == 0


# ---- compact


def compacted(out: str, *words: str) -> int:
    return run_command(compact.main, ["--dataset", out, *words])


def aged(s3: S3, stored: Stored, key: str, hours: float = 25) -> None:
    """Let the server take an object for older than it is."""
    moment = time.time() - hours * 3600
    os.utime(s3.folder / "data" / stored.name / key, (moment, moment))


def test_a_compacted_data_set_says_the_same(there: Stored, kept: Path, tmp_path: Path) -> None:
    """Rows in their order and every export; the next run is idle, and goes on with what is new."""
    out = f"{there.uri}/out"
    before, files = tables(out), Dataset(out).files("images")
    old = place(f"{out}/exports/labels.jsonl").read_bytes()
    assert compacted(out, "--everything") == 0
    dataset = Dataset(out)
    dataset.verify()
    assert [manifest.is_folded for manifest in dataset.manifests] == [True, False]
    assert tables(out) == before
    assert all(place(name).is_file() for name in files)  # for readers that were opened before
    assert exported("--dataset", out, "--format", "jsonl", "--output", tmp_path / "x") == 0
    assert (tmp_path / "x").read_bytes() == old
    there.put("in/new.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0")
    assert annotated(out, f"{there.uri}/in") == 0
    assert annotated(out, f"{there.uri}/in") == 0
    assert len(Dataset(out).manifests) == 3 and len(tables(out)["images"]) == 6
    assert compacted(out, "--everything", "--grace-minutes", "0") == 0
    assert len(Dataset(out).manifests) == 2 and len(tables(out)["images"]) == 6


def test_garbage_goes_when_it_is_a_day_old(there: Stored, s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    """Shards that nobody lists, reports of shards, dead uploads; nothing young, listed, or of an epoch to come."""
    out = f"{there.uri}/out"
    listed = tree(out)
    image = "out/images/00000001-0007.parquet"
    coming = "out/images/00000004-0000.parquet"
    young = ["out/images/00000001-0008.parquet", "out/_tmp/00000004-0002.json"]
    old = [image, "out/annotations/00000003-0001.parquet", "out/_tmp/00000002-0001.json", "out/_tmp/00000004-0001.json"]
    strange = "out/images/notes.parquet"
    for key in (*young, *old, coming, strange):
        there.put(key, b"left")
    for key in (*old, coming, strange, *(f"out/{name}" for name in listed if name != "_tmp/lock")):
        aged(s3, there, key)
    parts = [("out/images/x.parquet", 25.0), ("out/images/y.parquet", 1.0), ("out-more/x.parquet", 25.0)]
    died = [upload_that_died(s3, there, key, hours) for key, hours in parts]
    assert open_uploads(there) == sorted(died)
    capsys.readouterr()
    assert compacted(out, "--collect-garbage") == 0
    assert "4 left files, 0.0 MB, and 1 dead uploads removed" in capsys.readouterr().out
    left = {f"out/{name}": data for name, data in tree(out).items()}
    assert left == {f"out/{name}": data for name, data in listed.items()} | dict.fromkeys(
        [*young, coming, strange], b"left"
    )
    assert open_uploads(there) == sorted(died[1:])
    Dataset(out).verify()
    capsys.readouterr()
    assert compacted(out, "--collect-garbage") == 0
    assert "0 left files, 0.0 MB, and 0 dead uploads removed" in capsys.readouterr().out


def upload_that_died(s3: S3, stored: Stored, key: str, hours: float) -> tuple[str, str]:
    """Begin an upload in parts and leave it, so many hours ago."""
    upload = str(stored.client.create_multipart_upload(Bucket=stored.name, Key=key)["UploadId"])
    stored.client.upload_part(Bucket=stored.name, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
    moment = time.time() - hours * 3600
    for path in (s3.folder / "data" / stored.name).rglob(upload):
        os.utime(path, (moment, moment))
    return key, upload


def open_uploads(stored: Stored) -> list[tuple[str, str]]:
    told = stored.client.list_multipart_uploads(Bucket=stored.name).get("Uploads", ())
    return sorted((each["Key"], each["UploadId"]) for each in told)


# ---- clean


def cleaned(*words: str | Path) -> int:
    return run_command(clean.main, ["--runner=DirectRunner", *map(str, words)])


@pytest.fixture
def labels(pictures: Path, tmp_path: Path) -> Path:
    """Pictures, and a table of labels with an alias, a label that is none, and a box that leaves its picture."""
    lines = ["file,label,x,y,w,h", "portrait.png,joy,450,10,100,50", "two.jpg,sad,10,10,50,50", "nobody.jpg,zeal,,,,"]
    (pictures / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "own.toml").write_text('[[labels]]\nname = "happy"\naliases = ["joy"]\n[[labels]]\nname = "sad"\n')
    suite = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "label", "value_set": ["happy"]}}
    named = {"name": "own", "expectations": [suite | {"meta": {"table": "annotations"}}]}
    (tmp_path / "own.json").write_text(json.dumps(named))
    return tmp_path


def test_labels_are_cleaned_into_a_bucket(bucket: Stored, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With labels, pictures, vocabulary and expectations from there: as here. Explained, decided, and taken back."""
    for path in labels.iterdir():
        if path.is_file():
            bucket.put(f"given/{path.name}", path.read_bytes())
    bucket.put_folder(labels / "photos", "in/")
    here, out = str(labels / "out"), f"{bucket.uri}/out"
    for root, given, output in ((labels, labels / "photos", here), (f"{bucket.uri}/given", f"{bucket.uri}/in", out)):
        own = ["--bbox-format", "xywh-pixels", "--vocabulary", f"{root}/own.toml", "--expectations", f"{root}/own.json"]
        for _ in range(2):
            assert cleaned("--input", given, "--output", f"{output}/", *own) == 0
        assert len(Dataset(output).manifests) == 1
    assert said_alike(here, out)
    told = json.loads(place(f"{out}/report/summary.json").read_bytes())
    held = "own.expect_column_values_to_be_in_set"
    assert {"label.alias", "label.needs_review", held} <= told["rules"].keys()
    explained = []
    for output in (here, out):
        capsys.readouterr()
        assert cleaned("--dataset", output, "--explain", "label.alias") == 0
        explained.append(capsys.readouterr().out)
    assert explained[0].replace(str(labels / "photos"), f"{bucket.uri}/in") == explained[1]
    for output, where in ((here, str(labels)), (out, bucket.uri)):
        asked, decided = f"{where}/review.jsonl", f"{where}/decided.jsonl"
        assert cleaned("--dataset", output, "--needs-review", asked) == 0
        questions = [json.loads(line) for line in place(asked).read_text().splitlines()]
        answers = [question | {"decision": "relabel", "new_label": "sad", "reviewer": "anna"} for question in questions]
        assert "zeal" in place(asked).read_text()
        place(decided).write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        assert cleaned("--dataset", output, "--decisions", decided) == 0
        assert cleaned("--dataset", output, "--undo", "label.alias") == 0
        Dataset(output).verify()
    assert said_alike(here, out)
    assert len(Dataset(out).manifests) == 3
    assert "sad" in Dataset(out).scan("annotations").collect()["label"].to_list()


def said_alike(here: str, there: str) -> bool:
    """Tell whether the rows of two data sets are the same but for the names of files, and when."""
    places = ["source_uri", "source", "held", "decided_at", "item_key", "inputs", "timestamp_ms"]
    for name in TABLES:
        rows = [Dataset(each).scan(name).collect() for each in (here, there)]
        ours, others = (frame.drop([column for column in places if column in frame.columns]) for frame in rows)
        assert ours.equals(others), (name, ours.to_dicts(), others.to_dicts())
    return True


# ---- what else is named


def test_a_model_record_and_a_recipe_may_be_in_a_bucket(
    bucket: Stored, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It labels as one beside it does, and is the same model: a run with the other is idle."""
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    bucket.put_folder(pictures, "in/")
    bucket.put("models/raf.onnx", record.with_suffix(".onnx").read_bytes())
    uri = bucket.put("models/raf.toml", record.read_bytes())
    told = f'input = ["{bucket.uri}/in"]\noutput = "{bucket.uri}/out"\ndetector = "none"\nclassifier = "{uri}"\n'
    recipe = bucket.put("recipe.toml", told.encode())
    words = ["--runner=DirectRunner", "--recipe", recipe, "--no-export"]
    assert run_command(annotate.main, words) == 0
    assert run_command(annotate.main, [*words, "--classifier", str(record)]) == 0
    annotations = Dataset(f"{bucket.uri}/out").scan("annotations").collect()
    assert annotations.height == 3 and annotations["model"].str.starts_with("raf@").all()
    assert len(Dataset(f"{bucket.uri}/out").manifests) == 1
    kept = bucket.uri + "/out/report/recipe.toml"
    assert run_command(annotate.main, ["--runner=DirectRunner", "--recipe", kept, "--classifier", uri]) == 0
    assert len(Dataset(f"{bucket.uri}/out").manifests) == 1
    for wrong in ("none.toml", "raf.onnx"):
        capsys.readouterr()
        assert run_command(annotate.main, [*words, "--classifier", f"{bucket.uri}/models/{wrong}"]) == 2
        assert wrong in capsys.readouterr().err
    capsys.readouterr()
    assert run_command(annotate.main, ["--recipe", f"{bucket.uri}/none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err


# ---- moving


def test_a_data_set_that_moves_to_a_bucket_and_back_goes_on(
    bucket: Stored, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied file by file: nothing is labelled again, what is new once, and all that was made before stays readable."""
    monkeypatch.setattr(lease, "LAPSE_S", 0.6)  # the folder's lock is copied too
    folder = Path(shutil.copytree(kept, tmp_path / "kept", copy_function=shutil.copy2))
    options = ["--epoch-items", "2", "--crops"]
    bucket.put_folder(folder / "out", "out/")
    out = f"{bucket.uri}/out"
    Dataset(out).verify()
    assert tables(out) == tables(kept / "out")
    assert annotated(out, kept / "in", options=options) == 0
    assert len(Dataset(out).manifests) == 3
    add_picture(folder / "in", "new.jpg", background=1, left=10)
    bucket.put("one/new.jpg", (folder / "in" / "new.jpg").read_bytes())
    assert annotated(out, kept / "in", f"{bucket.uri}/one", options=options) == 0
    assert len(Dataset(out).manifests) == 4 and len(outcomes(out)) == 7
    for name, data in tree(out).items():
        path = tmp_path / "back" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    back = tmp_path / "back"
    assert annotated(back, kept / "in", f"{bucket.uri}/one", options=options) == 0
    assert len(Dataset(back).manifests) == 4
    assert tables(back) == tables(out)


def test_pictures_and_their_data_set_move_from_bucket_to_bucket(there: Stored, s3: S3) -> None:
    """Etags tell the contents: nothing is labelled again."""
    other = s3.make_bucket(f"in-{uuid.uuid4().hex[:12]}")
    for page in objects.walk(there.uri):
        for entry in page:
            copied = {"Bucket": there.name, "Key": entry.key}
            there.client.copy_object(Bucket=other, Key=entry.key, CopySource=copied)
    before = tables(f"{there.uri}/out")
    assert annotated(f"s3://{other}/out", f"s3://{other}/in") == 0
    assert tables(f"s3://{other}/out") == before
    assert len(Dataset(f"s3://{other}/out").manifests) == 3


# ---- the other clouds


@pytest.mark.parametrize("scheme", ["az", "gs"])
def test_a_run_in_and_out_of_another_cloud(
    scheme: str,
    request: pytest.FixtureRequest,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on S3: labelled, read, gone on with, compacted, exported; of two commits of one epoch one is made."""
    server: Azure | Gcs = request.getfixturevalue({"az": "azure", "gs": "gcs"}[scheme])
    use(server.env, monkeypatch)
    root = f"{scheme}://{server.make_bucket(f'in-{uuid.uuid4().hex[:12]}')}"
    for path in (kept / "in").iterdir():
        objects.put(f"{root}/in/a b/{path.name}", path.read_bytes())
    out, options = f"{root}/deep/out", ["--epoch-items", "2"]
    for _ in range(2):
        assert annotated(out, f"{root}/in/a b", options=options) == 0
        assert len(Dataset(out).manifests) == 3
    assert outcomes(out) == outcomes(kept / "out")
    here = Dataset(kept / "out").scan("annotations").select("image_id", "label", "confidence").collect()
    assert Dataset(out).scan("annotations").select("image_id", "label", "confidence").collect().equals(here)
    Dataset(out).verify()
    objects.put(f"{root}/in/a b/new.jpg", (kept / "in" / "1.jpg").read_bytes() + b"\0")
    objects.remove(f"{root}/in/a b/2.jpg")
    assert annotated(out, f"{root}/in/a b", options=options) == 0
    assert missing(out) == ["2.jpg"] and len(outcomes(out)) == 7
    assert json.loads(told_of(out, capsys, "--json"))["items"] == 7
    assert compacted(out, "--everything") == 0
    assert compacted(out, "--collect-garbage") == 0
    assert exported("--dataset", out, "--format", "jsonl", "--output", f"{root}/x.jsonl") == 0
    assert place(f"{root}/x.jsonl").read_bytes() == place(f"{out}/exports/labels.jsonl").read_bytes()
    taken = f"{out}/{MANIFESTS}/00000009.json"
    barrier, won = threading.Barrier(4), []

    def commit(number: int) -> None:
        barrier.wait()
        if create_exclusive(taken, f"{number}".encode()):
            won.append(number)

    writers = [threading.Thread(target=commit, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert place(taken).read_text() == "".join(map(str, won))


# ---- secrets


def test_no_secret_is_ever_told(
    bucket: Stored,
    s3: S3,
    kept: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in a file of the data set, on the screen, or in what a step that breaks leaves behind."""
    from transforms import decode

    bucket.put_folder(kept / "in", "in/")
    secret = s3.env["AWS_SECRET_ACCESS_KEY"]
    out = f"{bucket.uri}/out"
    assert annotated(out, f"{bucket.uri}/in", options=["--limit", "2"]) == 0

    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"{stores.store_of(objects.split(out)[0])!r} {vars(stores.s3_settings())!r}")

    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode", broken)
        annotated(out, f"{bucket.uri}/in")
        assert b"S3Store" in place(f"{out}/_tmp/last-error.txt").read_bytes()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + secret)
    stores.forget_stores()
    assert annotated(out, f"{bucket.uri}/in") in (1, 2)
    assert annotated(tmp_path / "out", f"{bucket.uri}/in") in (1, 2)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    stores.forget_stores()
    assert annotated(out, f"{bucket.uri}/in") == 0
    told_of_it = capfd.readouterr()
    files = tree(bucket.uri) | (tree(tmp_path / "out") if (tmp_path / "out").exists() else {})
    assert len(files) > 20
    for name, data in {**files, "out": told_of_it.out.encode(), "err": told_of_it.err.encode()}.items():
        assert secret.encode() not in data, name
