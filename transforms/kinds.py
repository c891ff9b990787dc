"""What a file is, told by its content: names and extensions lie."""

VIDEOS = frozenset(
    {
        *("mp4", "matroska", "avi", "mpeg-ts", "mpeg-ps", "flv", "asf", "ogg", "ivf"),
        *("h264", "hevc", "mpeg-video", "mpeg4-video", "obu"),  # streams without a container; OBU is AV1's
    }
)
"""What `sniff` calls moving pictures; a GIF or WebP may be one too."""

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
JPEG_START = b"\xff\xd8\xff"
JUNK_BYTES = 16  # a stray line end or length field before a JPEG; more is another kind of file with a JPEG in it
_MAGIC = (
    (JPEG_START, "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS", "psd"),
    (b"%PDF-", "pdf"),
    (_EBML, "matroska"),
    (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"OggS", "ogg"),
    (b"DKIF\0\0", "ivf"),
    (b"\0\0\x01\xba", "mpeg-ps"),
    (b"\0\0\x01\xb3", "mpeg-video"),
    (b"\0\0\x01\xb0", "mpeg4-video"),
    (b"\x12\0\x0a", "obu"),
)
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_FIRST_UNITS = {
    **dict.fromkeys((b"\x67", b"\x27", b"\x47", b"\x09", b"\x06"), "h264"),
    **dict.fromkeys((b"\x40", b"\x46"), "hevc"),
}
"""How streams without a container begin: parameter sets, a delimiter, or information beside the pictures."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def sniff(data: bytes) -> str:
    """Return what the bytes are, by content: a picture's kind, one of VIDEOS, or "svg", "text", "unknown", ...

    >>> sniff(b"\\x89PNG\\r\\n\\x1a\\n")
    'png'
    """
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "avi"}.get(data[8:12], "unknown")
    if data[4:8] in _BOXES:
        return _sniff_boxes(data)
    for sniffer in (_sniff_bmp, _sniff_pnm, _sniff_ico, _sniff_stream):
        if found := sniffer(data):
            return found
    if JPEG_START in data[: JUNK_BYTES + len(JPEG_START)]:
        return "jpeg"
    return _sniff_text(data)


def _sniff_boxes(data: bytes) -> str:
    """Tell AVIF and HEIF pictures from MP4 and QuickTime by their brands."""
    if data[4:8] != b"ftyp":
        return "mp4"
    size = int.from_bytes(data[:4], "big")
    head = data[8 : min(size, 256)]
    brands = {head[:4]} | {head[i : i + 4] for i in range(8, len(head), 4)}
    if brands & {b"avif", b"avis"}:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else "mp4"


def _sniff_bmp(data: bytes) -> str | None:
    sizes = (12, 40, 52, 56, 64, 108, 124)  # of the known second headers
    return "bmp" if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in sizes else None


def _sniff_pnm(data: bytes) -> str | None:
    return "pnm" if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3] in b" \t\r\n#" and data[2:3] else None


def _sniff_ico(data: bytes) -> str | None:
    is_icon = data[:3] == b"\0\0\1" and data[3:4] == b"\0" and 0 < int.from_bytes(data[4:6], "little") < 256
    return "ico" if is_icon and data[9:10] == b"\0" else None


def _sniff_stream(data: bytes) -> str | None:
    """Tell transport streams by their sync bytes, raw H.264 and HEVC by their first unit."""
    for start, packet in ((0, 188), (4, 192)):
        if len(data) > start + 2 * packet and data[start] == data[start + packet] == data[start + 2 * packet] == 0x47:
            return "mpeg-ts"
    for code in (b"\0\0\0\x01", b"\0\0\x01"):
        if data.startswith(code):
            return _FIRST_UNITS.get(data[len(code) : len(code) + 1])
    return None


def _sniff_text(data: bytes) -> str:
    head = data[:1024]
    if b"\0" in head:
        return "unknown"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(data) <= len(head):  # not just a character cut in two
            return "unknown"
        text = head[: error.start].decode("utf-8")
    if "<svg" in text and text.lstrip("\ufeff \t\r\n").startswith("<"):
        return "svg"
    return (
        "text" if text.isprintable() or all(c.isprintable() or c in "\ufeff\t\r\n\f\x1b" for c in text) else "unknown"
    )


def declared_bytes(head: bytes) -> int | None:
    """Return how long the file with these first bytes says that it is; None where its kind, or this file, does not say.

    >>> declared_bytes(b"RIFF\\x10\\0\\0\\0AVI ")
    24
    """
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return None if size == 2**32 - 1 else 8 + size
    if head[:4] == _EBML and (header := _ebml_size(head, 4)):
        segment = sum(header)
        if head[segment : segment + 4] == _SEGMENT and (rest := _ebml_size(head, segment + 4)):
            return sum(rest)
    return None


def _ebml_size(head: bytes, at: int) -> tuple[int, int] | None:
    """Return where the contents of a Matroska element begin, and their bytes; None where they are not told."""
    length = 9 - head[at].bit_length() if len(head) > at else 9
    mask = (1 << 7 * length) - 1
    size = int.from_bytes(head[at : at + length], "big") & mask
    return None if length > 8 or size == mask else (at + length, size)
