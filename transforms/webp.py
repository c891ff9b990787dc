"""Animated WebP by Pillow: FFmpeg reads only its first frame, if any."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from schemas.errors import ItemError
from transforms.storage import opened

TIME_BASE = (1, 1000)
"""WebP tells durations in milliseconds."""

_ANIMATED = 0x02  # of the flags in the first chunk, VP8X


def is_animated(head: bytes) -> bool:
    """Tell from a WebP file's first bytes whether it says that it moves."""
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & _ANIMATED)


def frame_times(uri: str, max_pixels: int) -> list[int]:
    """Return each frame's PTS in milliseconds from 0; the frames are decoded for it, as the format asks."""
    return [pts for pts, _ in _frames(uri, max_pixels)]


def read_webp(uri: str, max_pixels: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield each frame's PTS and its pixels (H, W, 3), laid on white. Raises ItemError behind the frames before it."""
    for pts, image in _frames(uri, max_pixels):
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        yield pts, np.asarray(Image.alpha_composite(page, rgba).convert("RGB"))


def _frames(uri: str, max_pixels: int) -> Iterator[tuple[int, Image.Image]]:
    with opened(uri) as file:
        try:
            with Image.open(file, formats=("WEBP",)) as image:
                if image.width * image.height > max_pixels:
                    raise ItemError(
                        "too_large",
                        f"{image.width} x {image.height} px are over the limit of {max_pixels:,}. "
                        "Raise it with --max-pixels.",
                    )
                pts = 0
                for frame in ImageSequence.Iterator(image):
                    frame.load()
                    yield pts, frame
                    pts += max(1, int(frame.info.get("duration", 0)))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise ItemError("corrupt", f"the animation breaks off: {error}") from error
