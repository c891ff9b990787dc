"""Progress: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from pipelines.dataset import Manifest
from pipelines.logs import log
from transforms import stopping

LINE_SECONDS = 10.0
"""How often a line is written where there is no terminal."""


class Progress:
    """Draws what is done of the listed files and of the frames of those that are videos.

    `count` lists the input once more to know how many files there are; it runs beside the work, and until it is done
    there is a rate but no time left. `more` tells how many items more than files were found so far: a video is known by
    its frames only when it is planned. What was committed before is in the listing. So time left is told as "about".
    """

    def __init__(self, count: Callable[[], int], more: Callable[[], int]) -> None:
        self.total = 0
        self.more = more
        self.started = time.monotonic()
        self.told = self.started
        self.items = 0
        self.bar: tqdm | None = (
            tqdm(file=sys.stderr, unit="item", dynamic_ncols=True, leave=False) if sys.stderr.isatty() else None
        )
        threading.Thread(target=self._count, args=(count,), daemon=True).start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def _count(self, count: Callable[[], int]) -> None:
        self.total = count()

    def draw(self) -> None:
        """Show how far the running epoch is."""
        done = stopping.items_done()
        if self.bar is not None:
            self.bar.total = self.total + self.more() if self.total else None
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.told >= LINE_SECONDS:
            self._line(done)

    def committed(self, manifest: Manifest) -> None:
        """Tell that an epoch is safe."""
        self.items += manifest.told["items"]
        if self.bar is None:
            self._line(self.items, f"epoch {manifest.epoch} committed: ")

    def _line(self, done: int, before: str = "") -> None:
        self.told = time.monotonic()
        rate = done / max(self.told - self.started, 1e-9)
        total = self.total + self.more()
        left = max(total - done, 0) / rate if rate else 0.0
        ahead = f" of about {total}, about {left:.0f} s left" if self.total else ""
        log.info("%s%d items done, %.1f items/s%s", before, done, rate, ahead)
