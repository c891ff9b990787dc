"""XML of strangers is refused before it can do harm, in whatever encoding and however it is cut."""

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ItemError
from transforms.readers import xml

BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
OUTSIDE = '<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


def whole(data: bytes, folder: Path) -> ElementTree.Element:
    """Return the root of a file."""
    path = folder / "a.xml"
    path.write_bytes(data)
    return xml.parsed(str(path))


def streamed(data: bytes) -> list[xml.Event]:
    """Return what comes of a file."""
    return list(xml.events(io.BytesIO(data), "a.xml"))


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, FILE, "<!DOCTYPE a><a/>", f"<!-- {'x' * 200_000} -->{BOMB}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_document_type_is_refused(tmp_path: Path, text: str, encoding: str) -> None:
    """With all that it can hold: entities, files, addresses; also after a long comment."""
    data = text.encode(encoding)
    for reading in (lambda: whole(data, tmp_path), lambda: streamed(data)):
        with pytest.raises(ItemError, match=r"document type.*remove its <!DOCTYPE>") as caught:
            reading()
        assert caught.value.error == "forbidden_xml"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<a>\n <b></a>", "line 2, column 7: mismatched tag"),
        (b"<a>", "line 1, column 4: no element found"),
        (b"<a/><b/>", "line 1, column 5: junk after document element"),
        (b"<a>&b;</a>", "line 1, column 4: undefined entity"),
        (b"<a>\xff</a>", "line 1, column 4: not well-formed"),
        (b"a", "line 1, column 1: syntax error"),
        (b'<?xml version="1.0" encoding="gb2312"?><a/>', "save it as UTF-8"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding: klingon: save it as UTF-8"),
    ],
)
def test_broken_files_say_where(tmp_path: Path, data: bytes, message: str) -> None:
    """Whole or as they come."""
    for reading in (lambda: whole(data, tmp_path), lambda: streamed(data)):
        with pytest.raises(ItemError, match=message) as caught:
            reading()
        assert caught.value.error == "broken_xml"


def test_sizes_are_bounded(tmp_path: Path) -> None:
    """Of a file, and of a tag or text where the file may have any size."""
    with pytest.raises(ItemError, match="8,388,608"):
        whole(b"<a>" + b" " * (8 << 20) + b"</a>", tmp_path)
    for data in (b"<a>" + b"x" * (5 << 20) + b"</a>", b"<a>" + b"<!--" + b"x" * (5 << 20) + b"--></a>"):
        with pytest.raises(ItemError, match="4,194,304") as caught:
            streamed(data)
        assert caught.value.error == "too_large"


def test_any_depth_is_read(tmp_path: Path) -> None:
    """What is kept of it is flat below the eighth level."""
    deep = b"<a>" * 300_000 + b"x" + b"</a>" * 300_000
    assert len(streamed(deep)) == 600_000
    value = xml.value_of(whole(deep, tmp_path))
    for _ in range(xml.MAX_DEPTH):
        assert isinstance(value, dict)
        value = value["a"]
    assert value == "x"


def test_repeated_tags_are_lists() -> None:
    """Others are texts without the white space around them."""
    told = xml.value_of(ElementTree.fromstring("<a><b> 1 </b><c><d/></c><b>2</b><b><e>3</e></b></a>"))
    assert told == {"b": ["1", "2", {"e": "3"}], "c": {"d": ""}}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.text("x <&>\"'é\n", max_size=5)), max_size=6),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_what_comes_is_what_stands_in_the_tree(elements: list[tuple[str, str]], encoding: str) -> None:
    """Every element begins with its attributes and ends with its text."""
    root = ElementTree.Element("root")
    for tag, text in elements:
        ElementTree.SubElement(root, tag, told=text).text = text
    data = ElementTree.tostring(root, encoding=encoding, xml_declaration=True)
    expected = [(True, "root", {}, "")]
    for each in ElementTree.fromstring(data):
        expected += [(True, each.tag, dict(each.attrib), ""), (False, each.tag, {}, each.text or "")]
    assert streamed(data)[:-1] == expected


@pytest.mark.parametrize("piece", [b" ", b"<!---->", b"<??>", b"<!DOCTYPE a>", b"<!DOCTYPE a [", b"]", b"<!--", b"\n<"])
def test_a_long_way_to_the_root_takes_no_time(piece: bytes) -> None:
    """However often it repeats what may stand there, or almost may."""
    for end in (b"", b"x", b"<"):
        assert xml.root_tag(b"<?xml?>" + piece * 10_000 + end) is None
    assert xml.root_tag(b"<!DOCTYPE a [<!ENTITY b ']'>] ><a>") == "a"


@given(st.binary(max_size=60))
def test_the_root_of_anything(head: bytes) -> None:
    """A name or nothing, never an error."""
    for data in (head, b"<" + head, b"<!--" + head, b"<!DOCTYPE" + head, b"\xff\xfe<" + head):
        found = xml.root_tag(data)
        assert found is None or found
