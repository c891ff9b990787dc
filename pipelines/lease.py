"""The lock of a data set in a bucket: a small object that its holder renews, because no store tells who has died.

A holder that renews it no longer is taken for dead, and whoever waited goes on in its place. Time is what passes on the
machine that waits: no clock is compared with another. Should the holder wake again, it finds the object changed.
"""

import os
import platform
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.logs import log
from schemas.errors import RunError, UsageError
from transforms.buckets import objects
from transforms.buckets.faults import Away
from transforms.places import Prefix

RENEW_S = 5.0
"""How often a holder renews its lock, in seconds."""

LAPSE_S = 20.0
"""How long a lock stands unchanged before its holder is taken for dead, in seconds."""

_LOOK_S = 0.5
_GOODBYE_S = 10.0
_NOBODY = "nobody\n"
_MOST_BYTES = 1 << 12


@dataclass(frozen=True)
class _Found:
    text: str
    mark: str

    @property
    def holder(self) -> str:
        return self.text.split("\n", 1)[0]


class Lease:
    """Holds the lock at `place` from `take` to `release`; `name` tells the holder and is one line."""

    def __init__(self, place: Prefix, name: str) -> None:
        self.uri, self.name = str(place), name.strip()
        self.lost = False
        self._mark = ""
        self._count = 0
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self, take_over: bool) -> None:
        """Take the lock, or raise `UsageError` where a living run holds it. `take_over` shuts that out."""
        while True:
            found = self._read()
            if found is None:
                if objects.create(self.uri, self._told()):
                    mine = self._require_read()
                    if mine.holder == self.name:
                        self._mark = mine.mark
                        break
                continue
            if not (take_over or _is_free(found.text) or _has_died_here(found.text)):
                self._wait_for_the_end_of(found)
            mark = objects.replace(self.uri, self._told(), found.mark)
            if mark is not None:
                self._mark = mark
                break
        self._renewing.start()

    def require(self) -> None:
        """Raise `RunError` where another run has taken the lock meanwhile."""
        found = self._read()
        if self.lost or found is None or found.holder != self.name:
            by = found.holder if found else "nobody"
            raise RunError(f"{self.uri} was taken over by another run ({by}): this one stops. What is committed stands")

    def now_ns(self) -> int:
        """Return the time by the store's own clock, as of the last renewal."""
        return objects.head(self.uri).mtime_ns

    def release(self) -> None:
        """Let the lock go, if it is still held."""
        self._ended.set()
        self._renewing.join(_GOODBYE_S)
        if self._renewing.is_alive():
            return  # it waits for a store that is away: the lock lapses by itself
        try:
            if objects.replace(self.uri, _NOBODY.encode(), self._mark) is None and (mark := self._own_mark()):
                objects.replace(self.uri, _NOBODY.encode(), mark)
        except (Away, OSError) as error:
            log.warning("the lock %s could not be let go, and lapses by itself: %s", self.uri, error)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                mark = objects.replace(self.uri, self._told(), self._mark) or self._own_mark()
            except (Away, OSError) as error:
                log.warning("the lock %s cannot be renewed: %s", self.uri, error)
                continue
            if mark is None:
                self.lost = True
                return
            self._mark = mark

    def _own_mark(self) -> str | None:
        """Return the lock's mark if it is held still: of a renewal that was done the answer may never have come."""
        found = self._read()
        return found.mark if found is not None and found.holder == self.name else None

    def _wait_for_the_end_of(self, found: _Found) -> None:
        until = time.monotonic() + LAPSE_S
        log.info("%s holds %s: waiting %.0f s for a sign of life", found.holder, self.uri, LAPSE_S)
        while time.monotonic() < until:
            time.sleep(_LOOK_S)
            now = self._read()
            if now is None or now.text == _NOBODY:
                return
            if now.mark != found.mark or now.text != found.text:
                holder = now.holder.split(",")[0]
                raise UsageError(
                    f"{self.uri.removesuffix('/_tmp/lock')} is in use by another run ({holder}): "
                    "wait for its end or stop it"
                )

    def _read(self) -> _Found | None:
        found = objects.marked(self.uri, _MOST_BYTES)
        return None if found is None else _Found(found.data.decode("utf-8", "replace"), found.mark or "")

    def _require_read(self) -> _Found:
        found = self._read()
        if found is None:
            raise RunError(f"{self.uri} was removed as soon as it was written: who else works there?")
        return found

    def _told(self) -> bytes:
        self._count += 1
        return f"{self.name}\nmachine {_machine()}, renewed {self._count} times\n".encode()


def _is_free(text: str) -> bool:
    """Tell whether a lock was let go, or came with a folder that was copied here: such a one is held by nobody."""
    return text == _NOBODY or re.fullmatch(r"process \d{1,10}, on [^\n]*, run [0-9a-f]+\n", text) is not None


def _has_died_here(text: str) -> bool:
    """Tell whether the holder was a process of this very machine, and is no more."""
    found = re.match(r"process (\d{1,10}), on [^\n]*\nmachine (\S+),", text)
    if found is None or found[2] != _machine():
        return False
    process = int(found[1])
    return process == os.getpid() or not Path(f"/proc/{process}").exists()


def _machine() -> str:
    """Return what tells this machine, since it started, and this container from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{platform.node()}:unknown:{os.getpid()}"
