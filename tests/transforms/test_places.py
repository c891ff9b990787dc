"""A folder in a bucket is asked as a local one, and gives the same answers."""

from pathlib import Path

import pytest

from tests.buckets import S3
from tests.stored import Stored, new_bucket
from transforms.places import Place, Prefix, place, scratch_of, sizes

FILES = {"a.json": b"1", "b.json": b"22", "c.txt": b"", "images/00000001-0000.parquet": b"333", "images/x/y.json": b"4"}


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


@pytest.fixture(params=["local", "bucket"])
def folder(request: pytest.FixtureRequest, bucket: Stored, tmp_path: Path) -> Place:
    """The same files here and there, with one beside them whose name begins alike."""
    for name, data in {**{f"out/{name}": data for name, data in FILES.items()}, "out-2/z.json": b"no"}.items():
        bucket.put(name, data)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path / "out" if request.param == "local" else place(f"{bucket.uri}/out/")


def test_what_is_there_is_told_alike(folder: Place) -> None:
    assert folder.name == "out"
    assert folder.is_dir() and not folder.is_file() and folder.exists()
    assert (folder / "a.json").is_file() and not (folder / "a.json").is_dir()
    assert (folder / "images").is_dir() and (folder / "images" / "x").exists()
    for missing in ("none", "a", "imag"):
        assert not (folder / missing).exists() and not (folder / missing).is_file() and not (folder / missing).is_dir()
    assert (folder / "b.json").stat().st_size == 2
    assert sizes(folder) == {"a.json": 1, "b.json": 2, "c.txt": 0}
    assert sizes(folder / "none") == {}
    with pytest.raises(FileNotFoundError):
        (folder / "none").stat()


def test_what_lies_below_is_listed_alike(folder: Place) -> None:
    """Nothing of a folder whose name begins alike."""
    assert sorted(each.name for each in folder.iterdir()) == ["a.json", "b.json", "c.txt", "images"]
    assert sorted(each.name for each in folder.glob("*.json")) == ["a.json", "b.json"]
    assert sorted(each.stem for each in folder.rglob("*.json")) == ["a", "b", "y"]
    [shard] = (folder / "images").glob("[0-9]*.parquet")
    assert (shard.parent.name, str(shard)) == ("images", f"{folder}/images/00000001-0000.parquet")


def test_what_is_written_is_read_alike(folder: Place) -> None:
    (folder / "new").mkdir(parents=True, exist_ok=True)
    (folder / "new" / "é.txt").write_text("ü", encoding="utf-8")
    assert (folder / "new" / "é.txt").read_text(encoding="utf-8") == "ü"
    assert (folder / "images" / "00000001-0000.parquet").read_bytes() == b"333"
    with (folder / "b.json").open("rb") as file:
        assert file.read(1) == b"2"
    (folder / "new" / "é.txt").unlink()
    (folder / "new" / "é.txt").unlink(missing_ok=True)
    assert not (folder / "new" / "é.txt").exists()


def test_what_comes_behind_a_name_is_listed_in_order(bucket: Stored) -> None:
    """By the whole name below, that one excluded."""
    for name in ("1-0", "2-0", "2-1", "3/0"):
        bucket.put(f"out/images/{name}")
    images = Prefix(f"{bucket.uri}/out/images")
    assert [str(each).removeprefix(f"{images}/") for each in images.behind("2-0")] == ["2-1", "3/0"]
    assert [each.name for each in images.behind("2-")] == ["2-0", "2-1", "0"]
    assert list(images.behind("4")) == []


def test_a_whole_bucket_is_a_folder(bucket: Stored) -> None:
    """It has no object of its own."""
    for whole in (place(bucket.uri), place(f"{bucket.uri}/")):
        assert str(whole) == bucket.uri and whole.name == bucket.name
        assert not whole.is_dir() and not whole.exists() and not whole.is_file()
    bucket.put("a/b")
    assert place(bucket.uri).is_dir() and place(bucket.uri).exists() and not place(bucket.uri).is_file()
    assert [str(each) for each in place(bucket.uri).iterdir()] == [f"{bucket.uri}/a"]
    assert place(f"{bucket.uri}/a").parent == place(bucket.uri)


def test_one_place_has_one_way_to_be_written(tmp_path: Path) -> None:
    assert place("s3://raw/out/") == place("s3://raw/out") == place("s3://raw/out").resolve()
    assert {place("s3://raw/out/"), place("s3://raw/out")} == {Prefix("s3://raw/out")}
    assert isinstance(place("out"), Path) and isinstance(place("s3:/raw/out"), Path)
    assert place(tmp_path) == tmp_path


def test_what_is_made_on_the_way_is_kept_on_this_machine(tmp_path: Path) -> None:
    assert scratch_of(tmp_path) == tmp_path / "_tmp"
    scratch = scratch_of(Prefix("s3://raw/out"))
    assert scratch.is_dir() and scratch == scratch_of(Prefix("s3://raw/other"))
