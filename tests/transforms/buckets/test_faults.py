"""What a store's troubles are called: which end a run, which may pass, and which are about one object alone."""

import errno

import pytest

from schemas.errors import ItemError, UsageError
from tests.buckets import S3, Azure
from tests.fault_proxy import FaultProxy
from tests.stored import Stored, new_bucket, use
from transforms.buckets import objects
from transforms.buckets.faults import Away
from transforms.buckets.stores import forget_stores
from transforms.storage import create_exclusive, read_bytes, read_head


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: int = 1) -> None:
    """Let a store be waited for so long alone."""
    known = objects.store_of
    monkeypatch.setattr(objects, "PATIENCE_S", seconds)
    monkeypatch.setattr(objects, "store_of", lambda bucket, patience_s=seconds: known(bucket, seconds))


def through(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "ExpiredToken", "expired: renew them"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (403, "SignatureDoesNotMatch", "does not know these credentials"),
        (403, "InvalidAccessKeyId", "does not know these credentials"),
        (401, "Whatever", "does not know these credentials (Whatever)"),
        (404, "NoSuchBucket", "there is no bucket s3://"),
        (507, "InsufficientCapacity", "the store is full"),
    ],
)
def test_what_no_waiting_mends_ends_at_once(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str
) -> None:
    """Whatever is asked; and it is no matter of one object, so it is never told as one item's failure."""
    uri = bucket.put("a.jpg")
    with FaultProxy(s3.port) as proxy:
        through(proxy, monkeypatch)
        proxy.fault(status, code=code)
        impatient(monkeypatch, 0 if status == 507 else 3)  # a store with a full disk may be a cache: it is asked again
        asks = (
            lambda: read_bytes(uri, 100),
            lambda: list(objects.walk(bucket.uri)),
            lambda: objects.put(uri, b""),
            lambda: create_exclusive(uri, b"new"),
            lambda: objects.remove(uri),
        )
        for ask in asks:
            with pytest.raises(Away) as caught:
                ask()
            assert said.partition(" (")[0] in str(caught.value)
            assert not caught.value.may_pass


def test_a_right_that_is_missing_is_told_by_its_name(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read is one object's matter, to list and to write an error of the system."""
    uri = bucket.put("a.jpg")
    use(s3.user(f"none-{bucket.name}"), monkeypatch)
    with pytest.raises(ItemError, match="no permission to read it") as told:
        read_bytes(uri, 100)
    assert told.value.error == "unreadable"
    for ask, right in ((lambda: list(objects.walk(bucket.uri)), "list"), (lambda: objects.put(uri, b""), "write")):
        with pytest.raises(PermissionError, match=f"the right to {right} {bucket.uri}"):
            ask()


def test_nothing_that_a_name_holds_is_taken_for_the_stores_word(bucket: Stored) -> None:
    """One hostile name in a bucket must not end a run, nor be told of as something else."""
    feigned = ("NoSuchBucket", "ExpiredToken", "QuotaExceeded")
    names = [f"<Code>{code}</Code>.jpg" for code in feigned] + [f'"reason": "{code}".jpg' for code in feigned]
    names += ["status code: 403.jpg", "Server returned non-2xx status code: 403.jpg", "builder error.jpg", "416.jpg"]
    names += ["no credentials at 169.254.169.254.jpg", "range.jpg"]
    for name in names:
        for ask in (lambda uri: read_bytes(uri, 9), lambda uri: read_head(uri, 9), lambda uri: objects.head(uri)):
            with pytest.raises((ItemError, FileNotFoundError)) as caught:
                ask(f"{bucket.uri}/{name}")
            assert getattr(caught.value, "error", "not_found") == "not_found"


@pytest.mark.parametrize("name", ["orange.jpg", "416.jpg", "credentials.jpg", "builder error.jpg"])
def test_a_store_that_fails_is_told_whatever_the_object_is_called(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither as the end of the object, nor as credentials that are missing."""
    uri = bucket.put(name, b"0123456789")
    with FaultProxy(s3.port) as proxy:
        through(proxy, monkeypatch)
        impatient(monkeypatch)
        for ask in (lambda: read_head(uri, 5), lambda: read_bytes(uri, 10)):
            for kind in (503, "reset"):
                proxy.clear()
                proxy.fault(kind)
                with pytest.raises(Away) as caught:
                    ask()
                assert caught.value.may_pass
                assert caught.value.is_answer == (kind == 503)
                assert "the store " in str(caught.value)


def test_nobody_at_the_address_is_told_as_such(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the store cannot be reached is another matter than what it answers."""
    impatient(monkeypatch)
    for endpoint, said in (
        ("http://127.0.0.1:9", "connection refused"),
        ("http://127.0.0.1.invalid:9", "dns error"),
    ):
        use({"AWS_ENDPOINT_URL": endpoint}, monkeypatch)
        with pytest.raises(Away, match=said) as caught:
            objects.head(f"{bucket.uri}/a")
        assert not caught.value.is_answer
    for endpoint in ("ftp://127.0.0.1:9", "nonsense", "http://"):
        use({"AWS_ENDPOINT_URL": endpoint}, monkeypatch)
        with pytest.raises(UsageError, match="no http:// or https:// address"):
            objects.head(f"{bucket.uri}/a")


def test_no_credentials_are_told_as_such(s3: S3, bucket: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_stores()
    with pytest.raises(Away, match="no credentials were found") as caught:
        objects.put(f"{bucket.uri}/a", b"")
    assert not caught.value.may_pass


@pytest.mark.parametrize("scheme", ["s3", "az"])  # the emulator of Google's answers 500, which that store does not
def test_a_wrong_bucket_is_told_as_such(s3: S3, azure: Azure, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A name with a slip must never look like an empty folder, or like one object that has gone."""
    use(s3.env if scheme == "s3" else azure.env, monkeypatch)
    uri = f"{scheme}://not-a-bucket/a"
    for ask in (lambda: list(objects.walk(uri)), lambda: objects.put(uri, b""), lambda: read_bytes(uri, 9)):
        with pytest.raises(Away, match=f"there is no bucket {scheme}://not-a-bucket"):
            ask()


@pytest.mark.parametrize("uri", ["s3://", "s3:///a", "s3://b\n/a", "s3://-/a"])
def test_what_names_no_bucket_is_misuse(uri: str) -> None:
    with pytest.raises(UsageError, match="with the bucket's name"):
        objects.head(uri)


@pytest.mark.parametrize("key", ["a//b", "../a", "a/./b", "new\nline"])
def test_a_name_that_would_mean_another_place_is_refused(bucket: Stored, key: str) -> None:
    with pytest.raises(OSError, match="no object of such a name") as caught:
        objects.put(f"{bucket.uri}/{key}", b"")
    assert caught.value.errno == errno.EINVAL
