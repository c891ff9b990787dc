"""What must survive when input and output are in buckets: kills, two writers, a zombie, and a store with troubles.

Small counts of what `python -m tests.soak.buckets` does at length.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.dataset import Dataset
from tests.buckets import S3
from tests.pipelines.conftest import outcomes, run
from tests.soak import buckets as soak
from tests.soak.buckets import QUICK, World
from tests.soak.kills import Broken
from tests.stored import Stored, new_bucket, use
from transforms.buckets import objects
from transforms.buckets.stores import forget_stores

PATIENCE_S = 5


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A server of its own, since it is killed; the environment is as before when the module is done."""
    before = dict(os.environ)
    try:
        with World(pictures=9, epoch_items=4, patience_s=PATIENCE_S) as made:
            yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        forget_stores()


@pytest.fixture(autouse=True)
def _this_world(world: World) -> None:
    forget_stores()


def test_killed_runs_end_in_the_same_bytes(world: World) -> None:
    soak.kills(world, count=3)


def test_a_server_that_is_killed_over_and_over_delays_only(world: World) -> None:
    soak.server_kills(world, count=3)


def test_a_store_that_stays_away_ends_the_run_and_the_next_goes_on(world: World) -> None:
    soak.gone(world)


@pytest.mark.parametrize("is_begun", [False, True], ids=["new", "begun"])
def test_of_two_runs_one_does_the_work(world: World, is_begun: bool) -> None:
    soak.race(world, rounds=1, is_begun=is_begun)


@pytest.mark.parametrize(("moment", "is_changed"), [("reading", False), ("committing", True)])
def test_a_run_that_slept_through_its_end_harms_nothing(world: World, moment: str, is_changed: bool) -> None:
    """Another has finished; what it still writes is seen by nobody, and it says that it was shut out."""
    soak.zombie(world, moment=moment, is_changed=is_changed)


@pytest.mark.parametrize("name", ["mixed", "lost-commits"])
def test_troubles_that_pass_are_in_no_byte(world: World, name: str) -> None:
    soak.fault(world, name=name)


@pytest.mark.parametrize("name", ["expired", "forbidden"])
def test_what_a_store_refuses_is_told_and_the_next_run_goes_on(world: World, name: str) -> None:
    """Exit code 1, one clear line, nothing committed is lost and the plan stays."""
    soak.refusal(world, name=name)


def test_a_bucket_that_goes_away_is_told_and_the_next_run_goes_on(world: World) -> None:
    soak.bucket_removed(world)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_picture_that_changes_since_its_listing_is_one_matter(world: World, how: str) -> None:
    soak.changed_meanwhile(world, how=how)


def test_the_soak_test_would_notice(world: World) -> None:
    """A data set with other bytes, one run twice, a shard that is gone."""
    out = world.new()
    world.begin(out).end(0)
    world.require_plain(out)
    with pytest.raises(Broken):
        world.begin(out, f"--detector={os.devnull}").end(0)
    shard = Dataset(world.uri(out)).files("images")[-1]
    objects.put(shard, objects.read(shard, None, lambda size: None) + b" ")
    with pytest.raises(Exception, match=r"bytes instead of|other bytes"):
        world.require_plain(out)


def test_the_secret_is_nowhere_to_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in any object of a data set, nor in what a run says, nor in the graph that Beam is given."""
    secret = world.server.env["AWS_SECRET_ACCESS_KEY"].encode()
    out = world.new()
    world.begin(out, "--log-format=json").end(0)
    keys = [entry.key for page in objects.walk(world.uri(out)) for entry in page]
    assert len(keys) > 15
    for key in keys:
        assert secret not in objects.read(objects.uri_of(world.uri(out), key), None, lambda size: None), key
    for log in world.folder.glob("*.txt"):
        assert secret not in log.read_bytes()
    import apache_beam as beam

    graphs: list[bytes] = []
    known = beam.Pipeline.run

    def kept(pipeline: beam.Pipeline, *args: object, **named: object) -> object:
        graphs.append(pipeline.to_runner_api().SerializeToString())
        return known(pipeline, *args, **named)

    monkeypatch.setattr(beam.Pipeline, "run", kept)
    assert run(world.uri(world.new()), world.source, options=[*QUICK, "--epoch-items=4", "--limit=4"]) == 0  # type: ignore[arg-type]
    assert graphs and not any(secret in graph for graph in graphs)


# ---- bad starts


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    made = new_bucket(s3, monkeypatch)
    made.put("in/a.jpg")
    return made


def start(source: str, output: str) -> int:
    return run(output, source, options=[*QUICK, "--no-export"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-and-secret"}, 2, "does not know these credentials (SignatureDoesNotMatch)"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, 2, "does not know these credentials (InvalidAccessKeyId)"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 1, "the store does not answer (connection refused)"),
        ({"AWS_ENDPOINT_URL": "ftp://127.0.0.1"}, 2, "is no http:// or https:// address"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, 2, "is no http:// or https:// address"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_soon(
    bucket: Stored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    env: dict[str, str],
    code: int,
    said: str,
) -> None:
    """As input and as output, in less than fifteen seconds, in one line, without the key."""
    use(env, monkeypatch)
    for source, output in ((f"{bucket.uri}/in", str(tmp_path / "out")), (str(tmp_path), f"{bucket.uri}/out")):
        started = time.monotonic()
        assert start(source, output) == code
        assert time.monotonic() - started < 15
        told = capfd.readouterr().err
        assert said in told.splitlines()[-1]
        assert "Traceback" not in told and "panicked" not in told and "wrong-and-secret" not in told
        assert not (tmp_path / "out").exists()


def test_a_wrong_bucket_is_told(bucket: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("s3://not-a-bucket/in", f"{bucket.uri}/out") == 2
    assert "there is no bucket s3://not-a-bucket" in capsys.readouterr().err
    assert start(f"{bucket.uri}/in", "s3://not-a-bucket/out") in (1, 2)
    assert "there is no bucket s3://not-a-bucket" in capsys.readouterr().err


def test_a_missing_right_is_told(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """To list the input, to list the output, to write it: each by its name, and nothing is written."""
    name = bucket.name[-8:]
    use(s3.user(f"n-{name}"), monkeypatch)
    for source, output, right in (
        (f"{bucket.uri}/in", str(tmp_path / "out"), "list"),
        (str(tmp_path), f"{bucket.uri}/out", "list"),
    ):
        assert start(source, output) == 2
        assert f"the right to {right} {bucket.uri}" in capsys.readouterr().err
    use(s3.user(f"r-{name}", reads=bucket.name), monkeypatch)
    assert start(f"{bucket.uri}/in", f"{bucket.uri}/out") == 2
    assert f"the right to write {bucket.uri}" in capsys.readouterr().err
    use(s3.env, monkeypatch)
    assert [entry.key for page in objects.walk(bucket.uri) for entry in page] == ["in/a.jpg"]


def test_an_output_with_strangers_in_it_is_refused(bucket: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    for output in (f"{bucket.uri}/in", bucket.uri, f"{bucket.uri}/"):
        assert start(f"{bucket.uri}/in", output) == 2
        assert "is not empty and is no data set" in capsys.readouterr().err
    assert start(f"{bucket.uri}/in", f"{bucket.uri}/in/a.jpg") == 2
    assert "this is a file" in capsys.readouterr().err


def test_a_profile_is_all_that_a_run_needs(
    bucket: Stored, s3: S3, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and endpoint out of the files of the AWS command line, nothing in the environment."""
    config = tmp_path / "config"
    told = s3.env
    config.write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {told['AWS_ENDPOINT_URL']}\n"
        f"aws_access_key_id = {told['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {told['AWS_SECRET_ACCESS_KEY']}\n"
    )
    bucket.delete("in/a.jpg")
    bucket.put_folder(pictures, "in/")
    for name in told:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_stores()
    assert start(f"{bucket.uri}/in", f"{bucket.uri}/out") == 0
    assert set(outcomes(f"{bucket.uri}/out")) == {"portrait.png", "two.jpg", "nobody.jpg"}  # type: ignore[arg-type]
