"""Pictures to a video that every browser plays: H.264 in MP4, with the times and the sound of their source."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from schemas.errors import RunError
from transforms import webp
from transforms.storage import printable
from transforms.video import Source, kind_of

_QUALITY = {"crf": "20", "preset": "veryfast"}


@dataclass(frozen=True)
class Shot:
    """One picture of a film: `pts` in the time base of its source, `rgb` (H, W, 3) uint8."""

    pts: int
    rgb: NDArray[np.uint8]


@dataclass(frozen=True)
class Filmed:
    """What was written; `silent` says why sound of the source is missing, empty where none is."""

    shots: int
    silent: str


def write_film(path: str, uri: str, shots: Iterable[Shot], *, max_pixels: int) -> Filmed:
    """Write shots, which come in the order of showing, as an MP4 at `path`, with the sound of the video at `uri`.

    Each keeps its time to the tick. An odd width or height gets one more column or row, the last one again; a shot of
    another size than the first is fitted to it. A few shots are in memory at a time. Raises RunError where `path`
    cannot be written, and ItemError where `uri` cannot be opened.
    """
    kind = kind_of(uri)
    with contextlib.ExitStack() as opened:
        source = None if kind == "webp" else opened.enter_context(Source(uri, kind, max_pixels))
        time_base = Fraction(*(source.time_base if source else webp.TIME_BASE))
        # A film tells when a stream starts in its own units, which are milliseconds unless finer ones are asked for.
        options = {"movflags": "+faststart", "movie_timescale": str(max(1000, time_base.denominator))}
        with _told(path), av.open(path, "w", format="mp4", options=options) as film:
            sound = _Sound(source, film)
            pictures: _Pictures | None = None
            count = 0
            for shot in shots:
                count += 1
                if pictures is None:
                    pictures = _Pictures(film, shot.rgb.shape, time_base, _rate(source))
                pictures.add(shot)
                sound.play_to(shot.pts * time_base)
            if pictures is not None:
                pictures.end()
                sound.play_to(None)
    return Filmed(count, sound.silent)


def _rate(source: Source | None) -> Fraction:
    """Return frames a second, about: the encoder divides its bytes by it, the times are those of the shots."""
    return Fraction((source and (source.stream.average_rate or source.stream.guessed_rate)) or 25)


class _Pictures:
    """The film's pictures."""

    def __init__(self, film: Any, shape: tuple[int, ...], time_base: Fraction, rate: Fraction) -> None:
        self._film = film
        self._stream = film.add_stream("libx264", rate=rate, options=_QUALITY)
        self._stream.height, self._stream.width = (side + side % 2 for side in shape[:2])
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = self._time_base = time_base
        context = self._stream.codec_context
        # Told, because players guess by the size.
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._shape = shape[:2]
        self._reformatter = VideoReformatter()

    def add(self, shot: Shot) -> None:
        frame = av.VideoFrame.from_ndarray(self._fitted(shot.rgb), format="rgb24")
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = shot.pts, self._time_base
        self._film.mux(self._stream.encode(frame))

    def end(self) -> None:
        self._film.mux(self._stream.encode(None))

    def _fitted(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._shape
        if rgb.shape[:2] != self._shape:
            rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if height % 2 or width % 2:
            rgb = np.asarray(cv2.copyMakeBorder(rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        return np.ascontiguousarray(rgb)


class _Sound:
    """The source's first sound, copied as it is, in step with the pictures, so that neither waits in memory."""

    def __init__(self, source: Source | None, film: Any) -> None:
        self.silent = ""
        self._film = film
        self._last: int | None = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        if source is None:
            return
        container: Any = source.container
        if not container.streams.audio:
            return
        track = container.streams.audio[0]
        codec = track.codec_context.codec.canonical_name if track.codec_context else "unknown"
        if codec not in film.supported_codecs:
            self.silent = f"MP4 does not take its kind ({codec})"
            return
        source.stream.discard = av.stream.Discard.all
        track.discard = av.stream.Discard.default
        self._track = film.add_stream_from_template(track)
        self._packets = container.demux(track)
        self._advance()

    def play_to(self, seconds: Fraction | None) -> None:
        """Write what sounds up to there; all that is left for None."""
        while self._next is not None and (seconds is None or self._next.dts * self._next.time_base <= seconds):
            self._next.stream = self._track
            self._film.mux(self._next)
            self._advance()

    def _advance(self) -> None:
        try:
            self._next = next((packet for packet in self._packets if self._in_order(packet)), None)
        except FFmpegError as error:
            self._next = None
            self.silent = f"it breaks off: {error.strerror}"

    def _in_order(self, packet: Any) -> bool:
        """Tell whether the packet comes behind the one before it: a film takes no others."""
        if packet.dts is None or (self._last is not None and packet.dts <= self._last):
            return False
        self._last = packet.dts
        return True


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise RunError(f"Cannot write {printable(path)}: {error.strerror or type(error).__name__}") from error
