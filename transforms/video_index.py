"""What frames a video holds, found without decoding it, and how they are cut into clips.

The index is what lets a plan say exactly which frames an epoch covers, and lets several workers decode one video: a
clip begins at a key frame from which it can be decoded alone, so its frames have the same bits as in one long reading.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.errors import ItemError
from schemas.records import Clip
from transforms import webp
from transforms.kinds import VIDEOS, declared_bytes, sniff
from transforms.mp4 import claims_too_much
from transforms.sampling import Candidate, pick
from transforms.stopping import stop_requested
from transforms.storage import opened
from transforms.video import Source, head_of, told

CLIP_FRAMES = 64
"""Wanted frames after which a clip ends at the next key frame: a seek costs about 20 frames of decoding."""

_GIF_END = b"\x3b"
_IDR, _NAL_TYPE = 5, 0x1F  # H.264, table 7-1
_FRAME_START = b"\0\0\1\xb6"  # MPEG-4, part 2, table 6-3
_LEAST_FRAME_BYTES = 9  # what says "no frame" has up to 8
_PROGRESSIVE = 1  # AVFieldOrder; less is unknown


@dataclass(frozen=True, slots=True)
class Listed:
    """One frame of the index; `start` is the PTS of the key frame from which it must be decoded."""

    pts: int
    is_key: bool
    start: int


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video in the order of showing, PTS in units of `time_base` seconds.

    `listed` is false where the file tells no times or false ones; `frames` is then empty. `width` and `height` are in
    pixels, before rotation. `error` and `message` tell why what follows the frames cannot be read; empty where all can.
    """

    kind: str
    time_base: tuple[int, int]
    width: int
    height: int
    listed: bool
    frames: tuple[Listed, ...]
    error: str
    message: str


class Stopped(Exception):
    """A stop was asked for while a long video was being indexed."""


def index_of(uri: str, kind: str, max_pixels: int) -> VideoIndex:
    """Return the video's index. A video that cannot be opened has one without frames, and with the reason.

    `kind` is what `transforms.kinds.sniff` calls the file. Raises `Stopped`.
    """
    try:
        if kind == "webp":
            return _webp_index(uri, max_pixels)
        if kind == "mp4":
            _require_possible(uri)
        with Source(uri, kind, max_pixels) as source:
            return _index(source)
    except ItemError as error:
        return VideoIndex(kind, (1, 1), 0, 0, True, (), error.error, str(error))


def video_kind(uri: str, max_pixels: int) -> str | None:
    """Return the kind of a video by its content, None for anything else; a GIF or WebP of one frame is a picture."""
    try:
        head = head_of(uri)
    except ItemError:
        return None  # decode will say why
    kind = sniff(head)
    if kind == "gif" or (kind == "webp" and webp.is_animated(head)):
        return kind if len(index_of(uri, kind, max_pixels).frames) > 1 else None
    return kind if kind in VIDEOS else None


def _require_possible(uri: str) -> None:
    with opened(uri) as file, told("the file cannot be searched"):
        if claims_too_much(file):
            raise ItemError("corrupt", "the file claims more samples than it can hold")


def _webp_index(uri: str, max_pixels: int) -> VideoIndex:
    found = webp.frames_of(uri, max_pixels)
    return VideoIndex(
        kind="webp",
        time_base=webp.TIME_BASE,
        width=found.width,
        height=found.height,
        listed=True,
        frames=tuple(Listed(pts, pts == 0, 0) for pts in found.times),
        error="truncated" if found.message else "",
        message=found.message,
    )


@dataclass
class _Packets:
    """What is kept of the packets: `pts`, whether the frame is shown, is a key frame, is a place to begin."""

    found: list[tuple[int | None, bool, bool, bool]]
    error: str
    message: str


def _index(source: Source) -> VideoIndex:
    read = _packets(source)
    context = source.stream.codec_context
    frames = _frames(read.found)
    return VideoIndex(
        kind=source.kind,
        time_base=source.time_base,
        width=context.width,
        height=context.height,
        listed=frames is not None,
        frames=tuple(frames or ()),
        error=read.error,
        message=read.message,
    )


def _packets(source: Source) -> _Packets:
    read = _Packets([], "", "")
    tells = _tells_times(source)
    codec, extradata = source.stream.codec_context.name, source.stream.codec_context.extradata or b""
    for packet in source.packets():
        if len(read.found) % 1000 == 0 and stop_requested():
            raise Stopped
        begins = packet.is_keyframe and _can_begin(packet, codec, extradata)
        pts = packet.pts if tells and (codec != "mpeg4" or _is_one_frame(packet)) else None
        read.found.append((pts, _is_shown(packet, codec), packet.is_keyframe, begins))
    if source.broken:
        read.error, read.message = source.broken.error, str(source.broken)
    declared = len(source.stream.index_entries) if source.kind == "mp4" else 0  # other containers only guess
    if not read.error and len(read.found) < declared:
        read.error = "truncated"
        read.message = (
            f"the file ends after {len(read.found)} of {declared} frames: it is a broken copy"
            if read.found
            else f"the file has none of its {declared} frames: it is a broken copy, or they are in another file"
        )
    if not read.error and not _is_whole(source):
        read.error, read.message = "truncated", f"the file ends after {len(read.found)} frames: it is a broken copy"
        if source.kind == "gif":
            del read.found[-1:]  # FFmpeg takes what there is of it for a frame
    if not read.error and not read.found:
        read.error, read.message = "no_video", "expected a video, found no frame in it"
    return read


def _is_whole(source: Source) -> bool:
    """Tell whether the file has its end, as far as its kind tells."""
    with opened(source.uri) as file, told("its end cannot be read"):
        size = file.seek(0, os.SEEK_END)
        if source.kind != "gif":
            return size >= (declared_bytes(head_of(source.uri)) or 0)
        file.seek(-1, os.SEEK_END)
        return file.read(1) == _GIF_END


def _tells_times(source: Source) -> bool:
    """Tell whether the PTS of packets are those of frames.

    AVI tells only when packets are decoded; FFmpeg works the rest out for codecs that delay at most one frame. In MPEG
    streams, H.264 may have two packets for the two fields of a frame.
    """
    context = source.stream.codec_context
    if source.kind == "avi":
        return context.name not in ("h264", "hevc")
    return not (source.kind in ("mpeg-ts", "mpeg-ps") and context.name == "h264" and context.field_order > _PROGRESSIVE)


def _is_one_frame(packet: Any) -> bool:
    """Tell whether a packet of MPEG-4 holds one frame: it may hold two, and packets without a frame follow then."""
    return packet.size >= _LEAST_FRAME_BYTES and bytes(packet).count(_FRAME_START) == 1


def _is_shown(packet: Any, codec: str) -> bool:
    """Tell whether the packet becomes a frame: not those that an edit list cuts off, nor VP8's hidden references."""
    if packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & 0x10)  # show_frame; RFC 6386, 9.1


def _can_begin(packet: Any, codec: str, extradata: bytes) -> bool:
    """Tell whether decoding can begin at this key frame.

    Containers also flag H.264 recovery points, behind which pictures are whole only after a while; only an IDR is safe.
    """
    if codec != "h264":
        return True
    data = bytes(packet)
    if extradata[:1] == b"\x01" and len(extradata) > 4:  # avcC: each unit has its length in front
        return _IDR in _unit_types(data, (extradata[4] & 3) + 1)
    return any(unit[0] & _NAL_TYPE == _IDR for unit in re.findall(rb"\x00\x00\x01(.)", data, re.DOTALL))


def _unit_types(data: bytes, length_bytes: int) -> set[int]:
    types, at = set(), 0
    while at + length_bytes < len(data):
        types.add(data[at + length_bytes] & _NAL_TYPE)
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    return types


def _frames(packets: list[tuple[int | None, bool, bool, bool]]) -> list[Listed] | None:
    """Return the frames that are shown in their order; None where times are missing, repeated or go back.

    None also where the first key frame is none at which decoding can begin: how many frames are lost then is known to
    the decoder alone.
    """
    times = [pts for pts, *_ in packets]
    if any(pts is None for pts in times) or len(set(times)) < len(times):
        return None
    starts: list[int] = []
    frames = []
    for pts, shown, is_key, begins in packets:
        assert pts is not None  # said above
        if begins and starts and pts < starts[-1]:
            return None
        if begins:
            starts.append(pts)
        elif is_key and not starts:
            return None
        # Behind a key frame may come frames that are shown before it: they need the key frame before that one.
        place = bisect_right(starts, pts)
        if shown and place:
            frames.append(Listed(pts, is_key, starts[place - 1]))
    if not frames and packets:
        return None
    return sorted(frames, key=lambda frame: frame.pts)


def clips(index: VideoIndex, wanted: str, *, most: int = CLIP_FRAMES, after: int | None = None) -> Iterator[Clip]:
    """Yield the video's wanted frames as clips, at least one, the last one marked; `after` is the PTS to go on behind.

    `wanted` is what `transforms.sampling.pick` takes. A clip ends before a key frame at which decoding can begin, once
    it has `most` frames.
    """
    numbered = ((Candidate(frame.pts, frame.is_key), (number, frame)) for number, frame in enumerate(index.frames))
    chosen = [
        (number, frame)
        for _, (number, frame) in pick(numbered, wanted, index.time_base)
        if after is None or frame.pts > after
    ]
    held: list[tuple[int, Listed]] = []
    for each in chosen:
        if len(held) >= most and each[1].start != held[-1][1].start:
            yield _clip(index, held, last=False)
            held = []
        held.append(each)
    yield _clip(index, held, last=True)


def _clip(index: VideoIndex, held: list[tuple[int, Listed]], last: bool) -> Clip:
    return Clip(
        kind=index.kind,
        time_base=index.time_base,
        listed=index.listed,
        pts=tuple(frame.pts for _, frame in held),
        frames=tuple(number for number, _ in held),
        starts=tuple(frame.start for _, frame in held),
        last=last,
        error=index.error if last else "",
        message=index.message if last else "",
    )
