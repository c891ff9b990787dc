"""What the user named in a bucket, and which objects that is; all on a real S3 server."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from schemas.errors import ItemError, UsageError
from tests.buckets import S3, Azure, Gcs
from tests.stored import Stored, new_bucket, use
from transforms.buckets import objects
from transforms.buckets.faults import Away
from transforms.source import UNREADABLE, InputFile, Listing, list_inputs
from transforms.storage import read_bytes, state_of

ODD_LETTERS = [
    *("a b.jpg", "a%b.jpg", "a%20b.jpg", "a+b.jpg", "a#b.jpg", "a?b.jpg", "a*b.jpg", "a[b].jpg", "a'b\"c.jpg"),
    *("a&b<c>.jpg", "back\\slash.jpg", "til~de.jpg", "é.jpg", "e\u0301.jpg", "\uffee.jpg", "😀.jpg", "日本.jpg"),
]


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def listed(*inputs: str, exclude: str | None = None) -> tuple[list[InputFile], Listing]:
    listing = list_inputs(inputs, exclude)
    return list(listing.files), listing


def names(*inputs: str, exclude: str | None = None) -> list[str]:
    return [file.file_name for file in listed(*inputs, exclude=exclude)[0]]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_is_a_folder_taken_whole(bucket: Stored, slash: str) -> None:
    """Names are relative to it, uris as the user named it; the state is that by which a change is seen."""
    bucket.put_all(["2026/b.jpg", "2026/a/x.jpg", "2026-secret/y.jpg", "2027/z.jpg"])
    top = f"{bucket.uri}/2026{slash}"
    files, listing = listed(top)
    assert [file.file_name for file in files] == ["a/x.jpg", "b.jpg"]
    assert [file.uri for file in files] == [f"{bucket.uri}/2026/a/x.jpg", f"{bucket.uri}/2026/b.jpg"]
    state = state_of(files[0].uri)
    assert state is not None and (files[0].size, files[0].etag) == (state.size, state.etag) and state.etag
    assert read_bytes(files[0].uri, 100) == b"2026/a/x.jpg"
    assert listing.roots == listing.whole == [top]
    assert listed(f"{bucket.uri}/2026/b.jpg")[1].whole == []


def test_the_order_is_that_of_a_local_folder(bucket: Stored, tmp_path: Path) -> None:
    """Code points of the whole name, which is the order of UTF-8; nothing is lost between pages."""
    keys = ["d/a-b/y", "d/a/x", "d/a.jpg", "d/a/b/c", "d/Z", "d/é", "d/\uffee", "d/😀", "d/~", "d/a-/x", "d/a b"]
    for key in keys:
        bucket.put(f"{key}.jpg")
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{key}.jpg").write_bytes(b"x")
    assert names(f"{bucket.uri}/d") == names(str(tmp_path / "d")) == sorted(names(f"{bucket.uri}/d"))
    assert len(names(bucket.uri)) == len(keys)


@pytest.mark.parametrize("name", ODD_LETTERS)
def test_odd_letters_are_read_under_the_listed_uri(bucket: Stored, name: str) -> None:
    """A wildcard in a name that is there is no wildcard."""
    bucket.put(f"d/{name}")
    bucket.put("d/axb.jpg")
    for given in (f"{bucket.uri}/d", f"{bucket.uri}/d/{name}"):
        [file] = [file for file in listed(given)[0] if file.file_name == name]
        assert read_bytes(file.uri, 100) == f"d/{name}".encode()
    assert len(listed(f"{bucket.uri}/d/{name}")[0]) == 1


def test_globs_go_through_folders_of_a_bucket_as_through_local_ones(
    bucket: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names, in the same order, with the same counts."""
    keys = ["2026/a/a1.jpg", "2026/a/b1.jpg", "2026/b/c/a2.jpg", "2026/a3.jpg", "2026/.h/a4.jpg", "2026/a/.a5.jpg"]
    keys += ["2026/a/notes.txt", "2026/b/Thumbs.db", "2026/a1/x.jpg", "2026/a1/y/z.jpg", "2026/b/.h/k.jpg"]
    for key in keys:
        bucket.put(key)
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(key.encode())
    monkeypatch.chdir(tmp_path)
    patterns = ["2026", "2026/*/a?.jpg", "2026/**", "2026/**/a?.jpg", "2026/a*", "2026/**/.h/*", "2026/*", "20??/*/*"]
    patterns += ["2026/**/.*", "*", "**/b/**", "2026/[ab]/*"]
    for pattern in patterns:
        here, there = listed(pattern), listed(f"{bucket.uri}/{pattern}")
        mine = [file.uri.removeprefix("./") for file in here[0]]
        assert mine == [file.uri.removeprefix(bucket.uri + "/") for file in there[0]], pattern
        assert here[1].skipped == there[1].skipped, pattern
    for pair in (("2026/a", "2026"), ("2026", "2026/a"), ("2026/a/a1.jpg", "2026"), ("2026/*/a?.jpg", "2026/a")):
        mine = [file.uri for file in listed(*pair)[0]]
        theirs = [file.uri for file in listed(*(f"{bucket.uri}/{each}" for each in pair))[0]]
        assert [uri.removeprefix(bucket.uri + "/") for uri in theirs] == mine, pair


def test_the_output_is_never_read(bucket: Stored) -> None:
    bucket.put_all(["a.jpg", "out/images/0.parquet", "out2/b.jpg"])
    assert names(bucket.uri, exclude=f"{bucket.uri}/out/") == ["a.jpg", "out2/b.jpg"]
    with pytest.raises(UsageError, match="lies in the output folder"):
        list_inputs([f"{bucket.uri}/out/images"], f"{bucket.uri}/out")


def test_markers_of_folders_are_no_files(bucket: Stored) -> None:
    """Neither listed nor counted as skipped; an empty object that is one is listed."""
    for key in ("d/", "d/m/", "d/m/x.jpg", "d/lonely/", "d/v1.2/", "d/n.set/", "e/"):
        bucket.put(key, b"")
    bucket.put_all(["d/m-1.jpg", "d/m.jpg", "d/n.set/y.jpg"])
    for key in ("d/empty.jpg", "d/bare"):
        bucket.put(key, b"")
    files, listing = listed(f"{bucket.uri}/d")
    assert [file.file_name for file in files] == ["bare", "empty.jpg", "m-1.jpg", "m.jpg", "m/x.jpg", "n.set/y.jpg"]
    assert listing.skipped == 0
    with pytest.raises(UsageError, match="No input found"):
        list_inputs([f"{bucket.uri}/e/"], None)


def test_an_odd_name_stops_no_listing(bucket: Stored) -> None:
    """It is an item that says why it cannot be read, and all behind it are listed."""
    bucket.put_all(f"d/{number:04}.jpg" for number in range(1100))
    bucket.put("d/0500\n.jpg")
    bucket.put("d/0999\r.jpg")
    files, _ = listed(f"{bucket.uri}/d")
    assert len(files) == 1102 and len({file.uri for file in files}) == 1102
    assert [file.file_name for file in files] == sorted(file.file_name for file in files)
    odd = [file for file in files if file.size == UNREADABLE]
    assert [file.file_name for file in odd] == ["0500\n.jpg", "0999\r.jpg"]
    with pytest.raises(ItemError, match="no object of such a name is read") as caught:
        read_bytes(odd[0].uri, 100)
    assert caught.value.error == "unreadable"


def test_a_listing_goes_on_behind_a_marker_without_saying_anything_twice(bucket: Stored) -> None:
    """A page that ends with `9/`, told as `9`, is followed by one with an odd name: `9-1.jpg` lies between the two."""
    bucket.put_all([*(f"d/{number:04}.jpg" for number in range(998)), "d/9-1.jpg", "d/91.jpg"])
    bucket.put("d/9/", b"")
    bucket.put("d/90\n.jpg")
    found = names(f"{bucket.uri}/d")
    assert found[-3:] == ["9-1.jpg", "90\n.jpg", "91.jpg"]
    assert len(found) == len(set(found)) == 1001


@pytest.mark.parametrize("odd", ["d//x.jpg", "d/../x.jpg", "d/./x.jpg"])
def test_parts_that_mean_another_place_are_items_that_fail(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """They cannot be stored on the test's server, so its answer is rewritten on the way."""
    bucket.put_all(["d/-x.jpg", "d/0.jpg", "e/x.jpg"])
    with rewriting(s3.port, b"d/-x.jpg", odd.encode()) as address:
        use({"AWS_ENDPOINT_URL": address}, monkeypatch)
        files, _ = listed(bucket.uri)
        assert [(file.file_name, file.size == UNREADABLE) for file in files] == [
            *((odd, True), ("d/0.jpg", False), ("e/x.jpg", False))
        ]
        with pytest.raises(ItemError, match="no object of such a name is read"):
            read_bytes(files[0].uri, 100)


@pytest.mark.parametrize(("kind", "scheme"), [("azure", "az"), ("gcs", "gs")])
def test_an_odd_name_elsewhere_is_named(
    kind: str, scheme: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other stores are listed as S3 is, but for this."""
    store: Azure | Gcs = request.getfixturevalue(kind)
    use(store.env, monkeypatch)
    top = f"{scheme}://{store.make_bucket('odd-names')}"
    for key in ("d/a b%+é.jpg", "d/zz.jpg", "d-/x.jpg"):
        objects.put(f"{top}/{key}", b"x")
    files, _ = listed(f"{top}/d")
    assert [file.uri for file in files] == [f"{top}/d/a b%+é.jpg", f"{top}/d/zz.jpg"]
    assert read_bytes(files[0].uri, 9) == b"x" and files[0].etag
    assert names(f"{top}/*/zz*") == ["d/zz.jpg"]
    variable = "AZURE_STORAGE_ENDPOINT" if kind == "azure" else "GOOGLE_BASE_URL"
    _, _, host, *path = store.env[variable].split("/")
    with rewriting(int(host.partition(":")[2]), b"d/zz.jpg", b"d//z.jpg") as address:
        use({variable: "/".join([address, *path])}, monkeypatch)
        with pytest.raises(UsageError, match=r"d//z\.jpg"):
            listed(f"{top}/d")


@pytest.mark.parametrize("where", ["", "/nothing", "/nothing/", "/nothing/x.jpg", "/d/*.png", "/d//x.jpg", "/d/../d"])
def test_nothing_found_is_said_at_once(bucket: Stored, where: str) -> None:
    if where:
        bucket.put("d/x.jpg")
    with pytest.raises(UsageError, match="No input found"):
        list_inputs([bucket.uri + where], None)


def test_what_keeps_us_out_is_told(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such bucket, no right to list it, nobody there."""
    bucket.put("d/x.jpg")
    with pytest.raises(UsageError, match="No input found: there is no bucket s3://in-none"):
        list_inputs(["s3://in-none/d/"], None)
    with pytest.raises(UsageError, match="expected s3://bucket/folder"):
        list_inputs(["s3://b_*d!/d/"], None)
    use(s3.user(f"stranger{os.getpid()}"), monkeypatch)
    with pytest.raises(UsageError, match=r"No input found: .*no permission to list it: give .* the right to list"):
        list_inputs([f"{bucket.uri}/d/"], None)
    use({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, monkeypatch)
    with pytest.raises(Away, match="does not answer"):  # it may in a while
        list_inputs([f"{bucket.uri}/d/"], None)


def test_a_list_names_objects(bucket: Stored, tmp_path: Path) -> None:
    """Local or in the bucket; beside it too; wrong lines are items that fail where they are read."""
    bucket.put_all(["d/a.jpg", "d/b b.jpg", "d/sub/c.jpg", "d/sub/d.jpg", "e/f.jpg"])
    lines = [f"{bucket.uri}/d/b b.jpg", f"{bucket.uri}/d/sub/", f"{bucket.uri}/gone.jpg", f"{bucket.uri}/e/*.jpg"]
    text = "\n".join(lines)
    (tmp_path / "list.txt").write_text(text)
    bucket.put("d/list.txt", (text + "\n[a]*.jpg\n").encode())
    local, remote = listed(f"@{tmp_path}/list.txt")[0], listed(f"@{bucket.uri}/d/list.txt")[0]
    assert [file.uri.removeprefix(bucket.uri) for file in local] == [
        *("/d/b b.jpg", "/d/sub/c.jpg", "/d/sub/d.jpg", "/gone.jpg", "/e/f.jpg")
    ]
    assert [file.size == UNREADABLE for file in local] == [False, False, False, True, False]
    assert [file.uri for file in remote] == [*(file.uri for file in local), f"{bucket.uri}/d/a.jpg"]
    assert local[0].etag and local[0].file_name == "b b.jpg" and local[0].root == f"{bucket.uri}/d"
    with pytest.raises(UsageError, match=r"the list .*nolist\.txt cannot be read"):
        list_inputs([f"@{bucket.uri}/nolist.txt"], None)
    (tmp_path / "wrong.txt").write_text("s3://in-none/x.jpg\n")
    with pytest.raises(UsageError, match="there is no bucket"):
        list_inputs([f"@{tmp_path}/wrong.txt"], None)


def test_a_store_that_goes_away_in_the_middle_ends_the_listing(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its message, behind what it has told."""
    bucket.put_all(f"d/{number:04}.jpg" for number in range(1001))
    with rewriting(s3.port, b"", b"", refuse="continuation-token") as address:
        use({"AWS_ENDPOINT_URL": address}, monkeypatch)
        files = list_inputs([f"{bucket.uri}/d"], None).files
        assert next(files).file_name == "0000.jpg"
        with pytest.raises(Away, match="no permission to list"):
            list(files)


@contextmanager
def rewriting(port: int, before: bytes, after: bytes, refuse: str = "\0") -> Iterator[str]:
    """Stand before a store and put other words into its answers; refuse requests with the text `refuse`."""

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, f"127.0.0.1:{port}" if name == "host" and not signed(self) else value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
            is_refused = refuse in self.path
            body = b"<Error><Code>AccessDenied</Code></Error>" if is_refused else body.replace(before, after)
            self.send_response(403 if is_refused else answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            connection.close()

        do_HEAD = do_GET  # noqa: N815 - http.server's name

    def signed(request: BaseHTTPRequestHandler) -> bool:
        return "SignedHeaders=host" in request.headers.get("authorization", "")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
