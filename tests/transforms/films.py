"""Small videos for tests."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def times(path: Path) -> list[Fraction]:
    """Return when each frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def made(path: Path, codec: str, form: str, time_base: Fraction, ticks: list[int], audio: str = "") -> Path:
    """Write a small video of a moving bar whose frames are shown at `ticks`."""
    with av.open(str(path), "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        track: Any = container.add_stream(audio, rate=48000) if audio else None
        for number, pts in enumerate(ticks):
            rgb = np.full((48, 64, 3), 40, np.uint8)
            rgb[:, number % 60 : number % 60 + 4] = (200, 60, 20)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            quiet = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), format="fltp", layout="stereo")
            quiet.sample_rate, quiet.pts, quiet.time_base = 48000, 0, Fraction(1, 48000)
            container.mux([*track.encode(quiet), *track.encode(None)])
    return path
