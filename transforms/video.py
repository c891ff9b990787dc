"""Videos by PyAV: exactly the wanted frames, with their exact times, in flat memory.

OpenCV repeats times on a variable frame rate and takes a corruption for the end; PyAV tells both. The demuxer is chosen
by the file's content and pinned, and a video can make it open no other file: playlists and references stay closed.
"""

import contextlib
import errno
import re
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from schemas.errors import ItemError
from schemas.records import Clip, Moment
from transforms.kinds import sniff
from transforms.sampling import ALL, Candidate, pick
from transforms.storage import opened, printable, read_head
from transforms.webp import read_webp

DEMUXERS = {
    "asf": "asf",
    "avi": "avi",
    "flv": "flv",
    "gif": "gif",
    "h264": "h264",
    "hevc": "hevc",
    "ivf": "ivf",
    "matroska": "matroska",
    "mp4": "mov",
    "mpeg-ps": "mpeg",
    "mpeg-ts": "mpegts",
    "mpeg-video": "mpegvideo",
    "mpeg4-video": "m4v",
    "obu": "obu",
    "ogg": "ogg",
}
"""FFmpeg's demuxer for each kind of `transforms.kinds.sniff`."""

HEAD_BYTES = 1024
"""Enough of a file's beginning to tell its kind."""

_GIF_LEAST, _GIF_INSTEAD = 2, 10  # hundredths of a second
_JOINT_PACKETS = 2

_BUFFER_BYTES = 1 << 18
_BACKS_S = (0, 1, 10)
"""How far before a key frame to jump, in seconds, one after the other: some containers find places by decoding times,
which lie before those of showing, and then jump past the key frame."""

_JUMP_S = 20.0
"""A gap up to the next wanted key frame, in seconds of the video, over which reading on costs more than a jump."""

av.logging.set_level(av.logging.PANIC)  # a broken file is told once, by us


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame: `rgb` (H, W, 3) uint8, turned as the video's metadata says."""

    moment: Moment
    rgb: NDArray[np.uint8]


class Source:
    """An open video: its container and its one picture stream."""

    def __init__(self, uri: str, kind: str, max_pixels: int) -> None:
        """Open it; raise ItemError "corrupt", "no_video", "too_large", "unsupported", or as `storage.opened`."""
        if kind not in DEMUXERS:
            raise ItemError("no_video", f"expected a video, found a file of another kind ({kind})")
        self.uri = uri
        self.kind = kind
        self.max_pixels = max_pixels
        self.broken: ItemError | None = None
        self.container: Any
        self._open = contextlib.ExitStack()
        self.reopen()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def reopen(self) -> None:
        """Go to the beginning, as if nothing had been read."""
        self.close()
        with contextlib.ExitStack() as opening:
            file = opening.enter_context(opened(self.uri))
            # Inside `opened` an error of FFmpeg must not be taken for one of the file system: some are both.
            with told(f"this is no whole video ({self.kind})"):
                self.container = opening.enter_context(
                    av.open(
                        file,
                        format=DEMUXERS[self.kind],
                        metadata_errors="replace",
                        buffer_size=_BUFFER_BYTES,
                        io_open=_refuse,
                    )
                )
            self.stream = self._stream()
            self._open = opening.pop_all()

    def _stream(self) -> Any:
        pictures = [s for s in self.container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise ItemError("no_video", "expected a video, found a file without moving pictures")
        best = self.container.streams.best("video")
        stream = best if best in pictures else pictures[0]
        context = stream.codec_context
        if context is None:
            raise ItemError("unsupported", "the video is compressed in a way that FFmpeg cannot decode")
        if not stream.time_base:
            raise ItemError("corrupt", "the video has no unit of time")
        require_pixels(context.width, context.height, self.max_pixels)
        for other in self.container.streams:
            if other is not stream:
                other.discard = av.stream.Discard.all
        context.thread_count = 1  # the workers are the threads
        context.options = {"max_pixels": str(self.max_pixels)}
        return stream

    @property
    def time_base(self) -> tuple[int, int]:
        """Seconds a unit of PTS, as a fraction."""
        return int(self.stream.time_base.numerator), int(self.stream.time_base.denominator)

    def packets(self) -> Iterator[Any]:
        """Yield the stream's packets from here on; where the container breaks they end, and `broken` says why."""
        return _MENDERS.get(self.kind, iter)(self._demuxed())

    def _demuxed(self) -> Iterator[Any]:
        self.broken = None
        try:
            with told("the video breaks off"):
                for packet in self.container.demux(self.stream):
                    if packet.size:
                        yield packet
        except ItemError as error:
            self.broken = error
        except IndexError:
            pass  # PyAV's own, at the end of a file in which another stream appeared late

    def packets_from(self, start: int) -> Iterator[Any]:
        """Yield the packets from the key frame at PTS `start` on."""
        for back_s in (*_BACKS_S, None):
            if back_s is None:
                self.reopen()
            elif not self._jump(start - round(back_s / self.stream.time_base)):
                continue
            packets = self.packets()
            for packet in packets:
                if packet.is_keyframe and packet.pts == start:
                    yield packet
                    yield from packets
                    return
                if back_s is not None and packet.is_keyframe and packet.pts is not None and packet.pts > start:
                    break
        place = _seconds(start, self.time_base)
        raise self.broken or ItemError("corrupt", f"the key frame at {place} is not there any more")

    def _jump(self, pts: int) -> bool:
        if self.kind == "gif":
            return False  # its times are counted from the beginning
        try:
            self.container.seek(pts, stream=self.stream)
        except (FFmpegError, OSError):
            return False
        return True


def _slowed(packets: Iterable[Any]) -> Iterator[Any]:
    """Time the packets of a GIF as browsers do, and ffprobe: what is shown for under 20 ms is shown for 100."""
    pts = 0
    for packet in packets:
        packet.pts = packet.dts = pts
        pts += packet.duration if packet.duration >= _GIF_LEAST else _GIF_INSTEAD
        yield packet


def _unmarked(packets: Iterable[Any]) -> Iterator[Any]:
    """Take the mark of damage from packets of a transport stream behind which a key frame comes at once.

    They are marked where two recordings were joined, whole as both are: the second one begins with a key frame.
    """
    held: deque[Any] = deque()
    for packet in packets:
        if packet.is_keyframe:
            for before in held:
                before.is_corrupt = False
        held.append(packet)
        if len(held) > _JOINT_PACKETS:
            yield held.popleft()
    yield from held


_MENDERS: dict[str, Callable[[Iterable[Any]], Iterator[Any]]] = {"gif": _slowed, "mpeg-ts": _unmarked}
"""What is to be mended in the packets of a kind."""


def _refuse(url: str, *_: object) -> NoReturn:
    raise ItemError("unsupported", f"a video may not open another file: {printable(url)}")


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn errors of FFmpeg, and of reading the file, into ItemError; `what` begins its text."""
    try:
        yield
    except FFmpegError as error:
        raise ItemError("corrupt", f"{what}: {_why(error)}") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place before the file's beginning was asked for
            raise ItemError("corrupt", f"{what}: it points out of itself") from error
        raise ItemError("unreadable", f"{what}: the file cannot be read: {error.strerror}") from error


def _why(error: FFmpegError) -> str:
    return error.strerror or type(error).__name__


def require_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ItemError "too_large" for a frame of more than `max_pixels`."""
    if width * height > max_pixels:
        raise ItemError(
            "too_large",
            f"frames of {width} x {height} px are over the limit of {max_pixels:,}. Raise it with --max-pixels.",
        )


def _seconds(pts: int, time_base: tuple[int, int]) -> str:
    return f"{pts * time_base[0] / time_base[1]:.3f} s"


def moment(frame: int, pts: int, time_base: tuple[int, int]) -> Moment:
    """Return the moment of a frame; milliseconds are rounded once, from the exact fraction."""
    return Moment(frame, pts, pts * time_base[0] * 1000 / time_base[1])


class _Pictures:
    """Turns decoded frames into RGB arrays."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._reformatter = VideoReformatter()
        self._matrices: dict[int, Matrix] = {}

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        require_pixels(frame.width, frame.height, self._max_pixels)
        alpha = any(component.is_alpha for component in frame.format.components)
        with told("a frame cannot be converted"):
            seen: Any = self._reformatter.reformat(
                frame, format="rgba" if alpha else "rgb24", interpolation=Interpolation.BILINEAR, threads=1
            ).to_ndarray()
        # A frame that was asked for its side data is only freed by the collector of cycles: one of each turn is asked.
        if frame.rotation not in self._matrices:
            self._matrices[frame.rotation] = _display_matrix(frame)
        return _upright(_on_white(seen) if alpha else seen, self._matrices[frame.rotation])


Matrix = tuple[int, int, int, int]
"""a, b, c, d: a pixel at x, y is shown at x * a + y * c from the left and x * b + y * d from the top."""


def _upright(pixels: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """Return the pixels turned and mirrored by quarter turns."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: VideoFrame) -> Matrix:
    """Return what the video's metadata say of the frame's turn."""
    try:
        told: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all that FFmpeg puts beside a frame; this much it tells nevertheless
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[round(frame.rotation / 90) % 4]
    if told is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", told)
    return a, b, c, d


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3): drawings and cut-outs are made for a page, as with pictures."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return np.asarray((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255, np.uint8)


def read_clip(uri: str, clip: Clip, *, wanted: str, max_pixels: int) -> Iterator[Frame]:
    """Yield the frames of `clip`, in the order of showing; raise ItemError behind them where some are missing.

    `wanted` is what `transforms.sampling.pick` takes; it decides where the clip lists no frames. "missing_frames":
    frames that the index promised were not decoded, but those after them were. Any other error: what is behind the last
    frame is lost.
    """
    if clip.kind == "webp":
        yield from _animation(uri, clip, max_pixels)
    elif clip.listed and clip.pts:
        yield from _listed(uri, clip, max_pixels)
    elif not clip.listed:
        yield from _in_order(uri, clip.kind, wanted, max_pixels)
    if clip.error:
        raise ItemError(clip.error, clip.message)


def _animation(uri: str, clip: Clip, max_pixels: int) -> Iterator[Frame]:
    due = dict(zip(clip.pts, clip.frames, strict=True))
    for pts, rgb in read_webp(uri, max_pixels):
        if pts in due:
            yield Frame(moment(due[pts], pts, clip.time_base), rgb)


def _listed(uri: str, clip: Clip, max_pixels: int) -> Iterator[Frame]:
    due = dict(zip(clip.pts, clip.frames, strict=True))
    pictures = _Pictures(max_pixels)
    with Source(uri, clip.kind, max_pixels) as source:
        for frame in _decoded(source, clip):
            if frame.pts in due:
                yield Frame(moment(due.pop(frame.pts), frame.pts, clip.time_base), pictures.rgb(frame))
    if due:
        first = min(due)
        raise ItemError(
            "missing_frames",
            f"from {_seconds(first, clip.time_base)} on, frames that the index lists were not decoded",
        )


def _decoded(source: Source, clip: Clip) -> Iterator[VideoFrame]:
    """Yield the decoded frames, the wanted ones among others; decode no more than they need."""
    wanted = frozenset(clip.pts)
    feed = _Feed(source, wanted)
    starts = frozenset(clip.starts)
    waiting = deque(zip(clip.pts, clip.starts, strict=True))  # wanted frames that the decoder has not been given yet
    given: set[int] = set()  # of the wanted ones
    packets: Iterator[Any] = iter(())
    at = None  # the last packet's time, None behind the end
    while waiting:
        start = waiting[0][1]
        if at is None or not 0 < (start - at) * clip.time_base[0] / clip.time_base[1] < _JUMP_S:
            packets = source.packets_from(start)
        at, reached, needed = None, None, False
        for packet in packets:
            if packet.is_keyframe and packet.pts in starts:
                reached = packet.pts
            needed = reached is not None and bool(waiting) and waiting[0][1] <= reached
            if needed:
                yield from feed.give(packet)
                if packet.pts in wanted:
                    given.add(packet.pts)
                while waiting and waiting[0][0] in given:
                    waiting.popleft()
            elif reached is not None:
                at = packet.pts
                break
        yield from feed.rest()
        if needed or reached is None:  # the end of the file
            if waiting and source.broken:
                raise source.broken
            return


def _has_layers(source: Source) -> bool:
    """Tell whether this is HEVC in temporal layers: frames that their own layer does not need, higher ones may."""
    context = source.stream.codec_context
    if context.name != "hevc":
        return False
    # The third byte of a sequence's parameters has the number of layers above the first; H.265, 7.3.2.2.
    sequences = re.findall(rb"\x42\x01(.)", context.extradata or b"", re.DOTALL)
    return not sequences or any(third[0] >> 1 & 7 for third in sequences)


class _Feed:
    """Gives packets to the decoder, and takes frames out of it: only whole ones, up to the first that is damaged."""

    def __init__(self, source: Source, wanted: frozenset[int]) -> None:
        self._context = source.stream.codec_context
        self._time_base = source.time_base
        self._wanted = wanted
        self._skipping = False
        self._may_skip = not _has_layers(source)

    def give(self, packet: Any) -> Iterator[VideoFrame]:
        """Yield the frames that are complete now; raise ItemError where one is damaged, or the packet.

        A frame that nobody wants is not decoded where no other needs it.
        """
        skip = self._may_skip and packet.pts not in self._wanted
        if skip != self._skipping:
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip
        if packet.is_corrupt:
            yield from self._rest_before(packet.pts)
            raise self._damaged(packet.pts, "a part of it is missing")
        try:
            frames = self._context.decode(packet)
        except FFmpegError as error:
            yield from self._rest_before(packet.pts)
            raise self._damaged(packet.pts, _why(error)) from error
        yield from self._whole(frames)

    def rest(self) -> Iterator[VideoFrame]:
        """Yield the frames that the decoder still holds, and make it ready for another key frame."""
        try:
            frames = self._context.decode(None)
        except FFmpegError as error:
            raise self._damaged(None, _why(error)) from error
        self._context.flush_buffers()
        yield from self._whole(frames)

    def _rest_before(self, pts: int | None) -> Iterator[VideoFrame]:
        # What is shown later may be whole: which of it the decoder has depends on where the clip began.
        return (frame for frame in self.rest() if pts is None or frame.pts is None or frame.pts < pts)

    def _whole(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.is_corrupt:
                raise self._damaged(frame.pts, "the frame is not whole")
            yield frame

    def _damaged(self, pts: int | None, why: str) -> ItemError:
        place = "" if pts is None else f" at {_seconds(pts, self._time_base)}"
        return ItemError("corrupt", f"the video is damaged{place}: {why}")


def _in_order(uri: str, kind: str, wanted: str, max_pixels: int) -> Iterator[Frame]:
    """Yield the wanted frames of a file that tells no times, or false ones: counted, at its frame rate."""
    pictures = _Pictures(max_pixels)
    with Source(uri, kind, max_pixels) as source:
        counted = ((Candidate(at.pts, frame.key_frame), (at, frame)) for at, frame in _counted(source))
        for _, (at, frame) in pick(counted, wanted, source.time_base):
            yield Frame(at, pictures.rgb(frame))


def _counted(source: Source) -> Iterator[tuple[Moment, VideoFrame]]:
    rate = source.stream.average_rate or source.stream.guessed_rate or 25
    step = max(1, round(1 / (rate * source.stream.time_base)))
    feed = _Feed(source, _Everything())
    last = None
    decoded: deque[int] = deque()  # when, in the order of decoding: all that AVI tells

    def given() -> Iterator[VideoFrame]:
        for packet in source.packets():
            if packet.dts is not None:
                decoded.append(packet.dts)
            yield from feed.give(packet)
        yield from feed.rest()

    for number, frame in enumerate(given()):
        first_decoded = decoded.popleft() if decoded else None
        pts = first_decoded if source.kind == "avi" else frame.pts
        if last is None:
            pts = pts or 0
        elif pts is None or pts <= last:
            pts = last + (1 if pts == last else step)
        last = pts
        yield moment(number, pts, source.time_base), frame
    if source.broken:
        raise source.broken


class _Everything(frozenset[int]):
    """All times there are."""

    def __contains__(self, _: object) -> bool:
        return True


def read_frames(uri: str, *, max_pixels: int) -> Generator[Frame, None, None]:
    """Yield every frame of a video in the order of showing, numbered as an annotated data set numbers them."""
    from transforms.video_index import clips, index_of  # the index reads videos by this module

    kind = kind_of(uri)
    for clip in clips(index_of(uri, kind, max_pixels), ALL, most=1 << 62):
        yield from read_clip(uri, clip, wanted=ALL, max_pixels=max_pixels)


def head_of(uri: str) -> bytes:
    """Return a file's first bytes, enough to tell its kind; raise ItemError where it cannot be read."""
    with told("its kind cannot be told"):
        return read_head(uri, HEAD_BYTES)


def kind_of(uri: str) -> str:
    """Return what the file is, as `transforms.kinds.sniff` does; raise ItemError where it cannot be read."""
    return sniff(head_of(uri))
