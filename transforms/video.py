"""Videos by PyAV: exactly the wanted frames, with their exact times, in flat memory.

OpenCV repeats times on a variable frame rate and takes a corruption for the end; PyAV tells both. The demuxer is chosen
by the file's content and pinned, and a video can make it open no other file: playlists and references stay closed.
"""

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
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
from transforms.storage import opened, printable
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
    "ogg": "ogg",
}
"""FFmpeg's demuxer for each kind of `transforms.kinds.sniff`."""

HEAD_BYTES = 1024
"""Enough of a file's beginning to tell its kind."""

_BUFFER_BYTES = 1 << 18
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
        self.uri = uri
        self.kind = kind
        self.max_pixels = max_pixels
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
            with _told(f"this is no whole video ({self.kind})"):
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
        """Yield the stream's packets from here on; raise ItemError where the container breaks."""
        with _told("the video breaks off"):
            for packet in self.container.demux(self.stream):
                if packet.size:
                    yield packet

    def packets_from(self, start: int) -> Iterator[Any]:
        """Yield the packets from the key frame at PTS `start` on."""
        for jump in (True, False):
            # Some containers jump past the place or not at all: then it is read from the beginning.
            if not jump:
                self.reopen()
            else:
                try:
                    self.container.seek(start, stream=self.stream)
                except FFmpegError:
                    continue
            packets = self.packets()
            for packet in packets:
                if packet.is_keyframe and packet.pts == start:
                    yield packet
                    yield from packets
                    return
                if jump and packet.is_keyframe and packet.pts is not None and packet.pts > start:
                    break
        raise ItemError("corrupt", f"the key frame at {_seconds(start, self.time_base)} is not there any more")


def _refuse(url: str, *_: object) -> NoReturn:
    raise PermissionError(f"a video may not open another file: {printable(url)}")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise ItemError("corrupt", f"{what}: {error.strerror or type(error).__name__}") from error
    except PermissionError as error:
        raise ItemError("unsupported", str(error)) from error


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

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        require_pixels(frame.width, frame.height, self._max_pixels)
        alpha = any(component.is_alpha for component in frame.format.components)
        with _told("a frame cannot be converted"):
            seen = self._reformatter.reformat(
                frame, format="rgba" if alpha else "rgb24", interpolation=Interpolation.BILINEAR, threads=1
            ).to_ndarray()
        pixels = _on_white(seen) if alpha else seen
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


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
            f"{len(due)} of {len(clip.pts)} frames that the index lists were not decoded, the first at "
            f"{_seconds(first, clip.time_base)}",
        )


def _decoded(source: Source, clip: Clip) -> Iterator[VideoFrame]:
    """Yield the decoded frames, the wanted ones among others; decode no more than they need."""
    feed = _Feed(source, frozenset(clip.pts))
    starts = frozenset(clip.starts)
    waiting = deque(zip(clip.pts, clip.starts, strict=True))  # wanted frames that the decoder has not been given yet
    given: set[int] = set()
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
                given.add(packet.pts)
                while waiting and waiting[0][0] in given:
                    waiting.popleft()
            elif reached is not None:
                at = packet.pts
                break
        yield from feed.drain()
        if needed or reached is None:
            return  # the end of the file


class _Feed:
    """Gives packets to the decoder, and takes frames out of it."""

    def __init__(self, source: Source, wanted: frozenset[int]) -> None:
        self._context = source.stream.codec_context
        self._time_base = source.time_base
        self._wanted = wanted
        self._skipping = False

    def give(self, packet: Any) -> Iterable[VideoFrame]:
        """Return the frames that are complete now; raise ItemError where the packet is damaged.

        A frame that nobody wants is not decoded where no other needs it.
        """
        skip = packet.pts not in self._wanted
        if skip != self._skipping:
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
            self._skipping = skip
        try:
            return self._good(self._context.decode(packet), packet.pts)
        except FFmpegError as error:
            # Not those that are shown behind the damage and were decoded before it: the rest is lost as a whole.
            frames = [frame for frame in self.drain() if packet.pts is None or frame.pts < packet.pts]
            return _then_broken(frames, self._broken(packet.pts, error))

    def drain(self) -> list[VideoFrame]:
        """Return the frames that the decoder still holds, and make it ready for another key frame."""
        try:
            frames = self._context.decode(None)
            self._context.flush_buffers()
        except FFmpegError:
            return []
        return [frame for frame in frames if not frame.is_corrupt]

    def _good(self, frames: list[VideoFrame], pts: int) -> Iterable[VideoFrame]:
        for number, frame in enumerate(frames):
            if frame.is_corrupt:
                return _then_broken(frames[:number], self._broken(pts, None))
        return frames

    def _broken(self, pts: int, error: FFmpegError | None) -> ItemError:
        why = error.strerror if error is not None else "the frame is damaged"
        return ItemError("corrupt", f"the video is damaged at {_seconds(pts, self._time_base)}: {why}")


def _then_broken(frames: list[VideoFrame], error: ItemError) -> Iterator[VideoFrame]:
    yield from frames
    raise error


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
    frames = (frame for packet in source.packets() for frame in feed.give(packet))
    for number, frame in enumerate(_then(frames, feed.drain)):
        pts = frame.pts
        if pts is None or (last is not None and pts <= last):
            pts = 0 if last is None else last + step
        last = pts
        yield moment(number, pts, source.time_base), frame


def _then(frames: Iterable[VideoFrame], rest: Any) -> Iterator[VideoFrame]:
    yield from frames
    yield from rest()


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


def kind_of(uri: str) -> str:
    """Return what the file is, as `transforms.kinds.sniff` does; raise ItemError where it cannot be read."""
    with opened(uri) as file:
        return sniff(file.read(HEAD_BYTES))
