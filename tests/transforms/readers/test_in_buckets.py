"""Label files in a bucket are found, told apart and read as those of a folder; on files of other people's making."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.raw import Facts, Source
from tests.buckets import S3
from tests.stored import Stored, new_bucket
from transforms.readers.forms import Found, read, sources_of
from transforms.readers.rows import Options


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def told(found: Found, top: str) -> tuple[list[tuple[str, ...]], list[tuple[str, str]], int]:
    """Return what was found, without where it was found."""
    sources = [(source.form, source.name, source.where, *source.files, *source.names) for source in found.sources]
    plain = [tuple(word.removeprefix(top) for word in source) for source in sources]
    return plain, [(name.removeprefix(top), why) for name, why in found.unknown], found.pictures


def rows(source: Source, scratch: Path) -> Iterator[object]:
    """Yield all that a source says, or why it says nothing."""
    facts = Facts()
    try:
        yield from (frame.rows() for frame in read(source, facts, Options({}, scratch)))
    except UsageError as error:
        yield str(error).replace(source.where, "").replace(source.name, "")
    yield facts.categories, facts.corners, facts.unit, len(facts.failures)


def test_a_folder_of_everything_reads_alike(shared: Path, bucket: Stored, tmp_path: Path) -> None:
    """In the same order, with the same files passed over, to the same rows."""
    local = shared / "data" / "annotations"
    bucket.put_folder(local, "annotations/")
    here, there = sources_of([str(local)], None, None), sources_of([f"{bucket.uri}/annotations/"], None, None)
    assert told(there, f"{bucket.uri}/annotations") == told(here, str(local))
    assert len({source.form for source in here.sources}) >= 7
    for mine, theirs in zip(here.sources, there.sources, strict=True):
        expected, found = (
            [repr(each).replace(top, "") for each in rows(source, tmp_path)]
            for source, top in ((mine, str(local)), (theirs, f"{bucket.uri}/annotations"))
        )
        assert found == expected, mine.name


def test_the_output_hidden_names_and_what_was_taken_are_left_out(bucket: Stored) -> None:
    bucket.put_all(["a/x.csv", "a/.x.csv", "a/.h/x.csv", "a/out/x.csv", "a/b/y.csv"])
    top = f"{bucket.uri}/a"
    found = sources_of([f"{top}/b", top, f"{top}/x.csv"], "csv", f"{top}/out/")
    assert [source.files for source in found.sources] == [(f"{top}/b/y.csv",), (f"{top}/x.csv",)]
    with pytest.raises(UsageError, match="lies in the output folder"):
        sources_of([f"{top}/out"], "csv", f"{top}/out")
    with pytest.raises(UsageError, match="does not fit"):
        sources_of([f"{top}/b"], "coco", None)
