"""Inputs in buckets, through whole jobs: what is labelled and cleaned there is what it would be in a folder."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import polars as pl
import pytest

from pipelines import clean
from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.roots import Roots
from schemas.errors import ItemError
from schemas.records import ImageRef, item_key
from tests.buckets import S3
from tests.pipelines.conftest import outcomes, run
from tests.stored import Stored, new_bucket, use
from tests.transforms.buckets.test_listing import ODD_LETTERS, rewriting
from tests.videos import encode
from transforms.decode import FileChanged, _require_unchanged
from transforms.source import list_inputs
from transforms.storage import sha256_of
from transforms.truth_forms import form_of, read_coco, read_folders

QUICK = ["--detector", "none", "--classifier", "mini-xception", "--no-export"]


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def portrait(pictures: Path) -> bytes:
    return (pictures / "portrait.png").read_bytes()


def test_objects_of_any_name_are_labelled(bucket: Stored, s3: S3, pictures: Path, tmp_path: Path) -> None:
    """The uri in the table opens what was labelled; what cannot be addressed is one failure; a second run is idle."""
    for number, name in enumerate(ODD_LETTERS):
        bucket.put(f"d/{name}", portrait(pictures) + bytes(number + 1))
    bucket.put("d/m/", b"")
    bucket.put("d/new\nline.jpg")
    for _ in range(2):
        assert run(tmp_path / "out", f"{bucket.uri}/d/", options=QUICK) == 0
    found = outcomes(tmp_path / "out")
    assert found == dict.fromkeys(ODD_LETTERS, "labelled") | {"new\nline.jpg": "failed: unreadable"}
    assert len(Dataset(tmp_path / "out").manifests) == 1
    images = Dataset(tmp_path / "out").scan("images").select("source_uri", "sha256", "file_name").collect()
    for uri, sha256, name in images.iter_rows():
        assert uri == f"{bucket.uri}/d/{name}"
        assert sha256_of(uri) == sha256


def test_an_object_that_went_since_the_listing_is_one_failure(
    bucket: Stored, s3: S3, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store tells of it, and has it no more."""
    bucket.put("d/a.png", portrait(pictures))
    bucket.put("d/b.png", portrait(pictures) + b"\0")
    with rewriting(s3.port, b"<Key>d/b.png</Key>", b"<Key>d/c.png</Key>") as address:
        use({"AWS_ENDPOINT_URL": address}, monkeypatch)
        assert run(tmp_path / "out", f"{bucket.uri}/d", options=QUICK) == 0
    assert outcomes(tmp_path / "out") == {"a.png": "labelled", "c.png": "failed: not_found"}


def test_a_wrong_input_is_misuse(bucket: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", f"{bucket.uri}/d", options=QUICK) == 2
    assert "No input found" in capsys.readouterr().err


def test_a_video_that_was_replaced_since_it_was_planned_is_not_decoded(bucket: Stored, tmp_path: Path) -> None:
    """By its etag: size and time may be the same."""
    encode(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    uri = bucket.put("a.mp4", data)
    [file] = list_inputs([uri], None).files
    ref = ImageRef(0, "key", 0, file.uri, file.file_name, file.size, file.mtime_ns, 0, None, file.etag)
    [listed] = list_inputs([bucket.uri], None).files
    assert listed.version == file.version
    _require_unchanged(ref)
    bucket.put("a.mp4", data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FileChanged):
        _require_unchanged(ref)
    bucket.delete("a.mp4")
    with pytest.raises(ItemError) as caught:
        _require_unchanged(ref)
    assert caught.value.error == "not_found"


# Roots


def home(folder: Path) -> Dataset:
    (folder / "_manifests").mkdir(parents=True, exist_ok=True)
    return Dataset(folder)


def test_a_root_in_a_bucket_is_known_by_any_name(tmp_path: Path) -> None:
    """However the inputs are cut; two buckets, or a folder of the same name, are others."""
    roots = Roots(home(tmp_path / "out"))
    first, name = roots.place("s3://raw/2026", "a/x.jpg")
    assert (first.number, first.name, name) == (0, "2026", "a/x.jpg")
    assert roots.place("s3://raw/2026/", "y.jpg") == (first, "y.jpg")
    assert roots.place("s3://raw/2026/a/", "x.jpg") == (first, "a/x.jpg")
    assert roots.place("s3://raw", "2026/a/x.jpg") == (first, "a/x.jpg")
    assert roots.place("s3://raw", "2027/x.jpg")[0].number == 1
    assert roots.place("s3://raw", "2026-secret/x.jpg")[0].number == 1
    assert roots.place("s3://other/2026", "a/x.jpg")[0].number == 2
    assert roots.place(str(tmp_path / "2026"), "a/x.jpg")[0].number == 3
    names = [roots.place("s3://raw", f"2027/{odd}")[1] for odd in ("a//x", "a/x", "/a/x", "../a/x", "a/./x")]
    assert len(set(names)) == 5
    assert [roots.around(where) for where in ("s3://raw/2026/b", "s3://raw/q", "s3://none")] == [
        *((0, "b"), (1, "q"), (-1, ""))
    ]


def test_a_data_set_that_moves_to_a_bucket_knows_its_inputs(bucket: Stored, tmp_path: Path) -> None:
    """Those that stayed where they were; and those that moved with it from one bucket to the next."""
    before = Roots(home(tmp_path / "out"))
    for root in (str(tmp_path / "in"), "s3://raw/2026"):
        before.place(root, "a.jpg")
    bucket.put("out/_manifests/x", b"")
    after = Roots(Dataset(f"{bucket.uri}/out"))
    after.learn({"number": root.number, "name": root.name, "marks": root.marks} for root in before.known)
    assert after.place(str(tmp_path / "in"), "a.jpg")[0].number == 0
    assert after.place("s3://raw/2026/", "a.jpg")[0].number == 1
    beside = after.place(f"{bucket.uri}/in", "a.jpg")[0]
    assert after.former(beside) == []
    moved = Roots(Dataset(f"{bucket.uri}/out"))
    moved.home = "s3://copy/out"
    moved.learn([{"number": 0, "name": beside.name, "marks": beside.marks}])
    assert [root.number for root in moved.former(moved.place("s3://copy/in", "a.jpg")[0])] == [0]


# Labels


def cleaned(output: Path, inputs: Sequence[Path | str], *options: str) -> list[tuple[object, ...]]:
    """Clean; return every annotation as (picture, label, box)."""
    named = [word for each in inputs for word in ("--input", str(each))]
    words = ["--runner=DirectRunner", *named, "--output", str(output), "--no-export", *options]
    assert run_command(clean.main, words) == 0
    images = Dataset(output).scan("images").select("image_id", "file_name", "sha256", "width")
    told = Dataset(output).scan("annotations").join(images, on="image_id")
    box = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
    return sorted(told.select("file_name", "label", *box, "sha256", "width").collect().rows(), key=str)


@pytest.fixture
def labels(tmp_path: Path, pictures: Path) -> Path:
    """Two pictures, and labels of them in several formats."""
    folder = tmp_path / "labels"
    (folder / "raw").mkdir(parents=True)
    (folder / "yolo" / "labels").mkdir(parents=True)
    (folder / "voc").mkdir()
    told = []
    for number, name in enumerate(("portrait.png", "two.jpg")):
        (folder / "raw" / name).write_bytes((pictures / name).read_bytes())
        picture = cv2.imread(str(pictures / name))
        assert picture is not None
        height, width = picture.shape[:2]
        told.append((number, name, width, height))
        (folder / "yolo" / "labels" / f"{Path(name).stem}.txt").write_text(f"{number} 0.5 0.5 0.25 0.25\n")
        (folder / "voc" / f"{Path(name).stem}.xml").write_text(
            f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>"
            "<object><name>happy</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>60</xmax><ymax>70</ymax></bndbox>"
            "</object></annotation>"
        )
    (folder / "yolo" / "classes.txt").write_text("sad\nfear\n")
    coco = {
        "images": [{"id": n, "file_name": name, "width": w, "height": h} for n, name, w, h in told],
        "categories": [{"id": 1, "name": "Happy"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 50, 60]} for n, *_ in told],
    }
    (folder / "labels.json").write_text(json.dumps(coco))
    (folder / "labels.csv").write_text("image,label\nportrait.png,sad\ntwo.jpg,angry\n")
    lines = [json.dumps({"image": name, "label": "fear"}) for _, name, *_ in told]
    (folder / "labels.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("form", ["labels.json", "labels.csv", "labels.jsonl", "yolo", "voc"])
def test_labels_in_a_bucket_are_those_of_a_folder(bucket: Stored, labels: Path, tmp_path: Path, form: str) -> None:
    """Labels there and pictures here, and the other way round; the same source is the same tomorrow."""
    bucket.put_folder(labels, "old/")
    expected = cleaned(tmp_path / "local", [labels / form], "--images", str(labels / "raw"))
    assert len(expected) == 2
    there = f"{bucket.uri}/old"
    for _ in range(2):
        assert cleaned(tmp_path / "mixed", [f"{there}/{form}"], "--images", str(labels / "raw")) == expected
    assert len(Dataset(tmp_path / "mixed").manifests) == 1
    assert cleaned(tmp_path / "images", [labels / form], "--images", f"{there}/raw/") == expected
    assert cleaned(tmp_path / "both", [f"{there}/{form}"], "--images", f"{there}/raw") == expected


def test_a_folder_of_a_bucket_is_searched_as_a_local_one(
    bucket: Stored, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Label files of all formats, a data set of ours, what is passed over."""
    (labels / "strange.xml").write_text("<html></html>")
    (labels / ".hidden.csv").write_text("image,label\nportrait.png,joy\n")
    cleaned(labels / "ours", [labels / "labels.csv"])
    bucket.put_folder(labels, "old/")
    capsys.readouterr()
    expected = cleaned(tmp_path / "local", [labels])
    here = capsys.readouterr().err
    assert cleaned(tmp_path / "out", [f"{bucket.uri}/old/"]) == expected
    there = capsys.readouterr().err
    assert "strange.xml" in here

    def warned(said: str) -> list[str]:
        return sorted(line.partition("passed over")[2] for line in said.splitlines() if "passed over" in line)

    assert warned(there.replace(f"{bucket.uri}/old", str(labels))) == warned(here)
    sources = [
        sorted(each["form"] for each in Dataset(out).manifests[-1].told["sources"])
        for out in (tmp_path / "local", tmp_path / "out")
    ]
    assert sources[0] == sources[1] and "parquet" in sources[0]


def test_the_truth_may_be_in_a_bucket(bucket: Stored, tmp_path: Path) -> None:
    """Folders named by label, and files, give what they give here."""
    for name in ("happy/a.jpg", "sad/sub/b.jpg"):
        bucket.put(f"t/{name}")
        (tmp_path / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / name).write_bytes(b"x")
    labels = {"happy": "happy", "sad": "sad"}
    assert form_of(f"{bucket.uri}/t") == "folders"
    assert read_folders(f"{bucket.uri}/t/", labels.get).equals(read_folders(str(tmp_path / "t"), labels.get))
    images = [{"id": 1, "file_name": "a.jpg"}]
    told = json.dumps({"images": images, "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}).encode()
    assert form_of(bucket.put("truth.json", told)) == "coco"
    assert read_coco(f"{bucket.uri}/truth.json", Counter())["x"].to_list() == [1.0]


def test_labels_that_are_not_there_are_misuse(
    bucket: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put("d/a.csv")
    for where in (f"{bucket.uri}/e", f"{bucket.uri}/d/b.csv", "s3://in-none/a.csv"):
        words = ["--runner=DirectRunner", "--input", where, "--output", str(tmp_path / "out")]
        assert run_command(clean.main, words) == 2
        assert "No input found" in capsys.readouterr().err


def test_keys_tell_one_content_from_the_next(bucket: Stored, pictures: Path, tmp_path: Path) -> None:
    """A picture that was replaced by one of the same size is labelled again."""
    bucket.put("d/a.png", portrait(pictures) + b"1")
    assert run(tmp_path / "out", f"{bucket.uri}/d", options=QUICK) == 0
    bucket.put("d/a.png", portrait(pictures) + b"2")
    assert run(tmp_path / "out", f"{bucket.uri}/d", options=QUICK) == 0
    dataset = Dataset(tmp_path / "out")
    assert len(dataset.manifests) == 2
    [key] = dataset.scan("images").select(pl.col("item_key")).collect()["item_key"]
    [file] = list_inputs([f"{bucket.uri}/d"], None).files
    assert key == item_key(0, "a.png", file.size, file.version)
