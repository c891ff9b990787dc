"""The kinds of input, who competes on each, and in which order everything is measured."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pipelines.engine import Engine
from tests.benchmarks import composed, inputs
from tests.benchmarks.contestants import (
    CORES,
    DETECT_SIZE,
    BareLoop,
    Contestant,
    OpenCv,
    Pipeline,
    decode_clip,
    decode_one,
    spread_over_cores,
)
from tests.benchmarks.stages import Stages
from tests.benchmarks.stopwatch import Watched

PIPELINE, BARE, DECODE = "pipeline (listing to report)", "bare loop (decode, Engine)", "decode alone"
OWN_SIZE, SMALL = "FaceDetectorYN, own size (detects only)", f"FaceDetectorYN, {DETECT_SIZE} px (detects only)"


@dataclass(frozen=True)
class Size:
    """How much is measured: pictures, clips and their frames, crops; what is measured in one thread; in memory."""

    pictures: int
    large_pictures: int
    clips: int
    frames: int
    crops: int
    alone: int
    crops_alone: int
    few_pictures: int
    many_pictures: int
    times_long: int
    starts: int
    peaks: int


FULL = Size(
    pictures=1000,
    large_pictures=600,
    clips=10,
    frames=60,
    crops=3000,
    alone=120,
    crops_alone=1000,
    few_pictures=100,
    many_pictures=10_000,
    times_long=30,
    starts=6,
    peaks=10,
)
QUICK = Size(
    pictures=16,
    large_pictures=16,
    clips=2,
    frames=8,
    crops=64,
    alone=8,
    crops_alone=32,
    few_pictures=4,
    many_pictures=12,
    times_long=2,
    starts=1,
    peaks=1,
)


@dataclass
class Kind:
    """One kind of input with all that is measured on it; `unit` is one of its items, `alone` what one thread does.

    `least` is a file of one item. The contestants are the pipeline, the bare loop, OpenCV's detectors where there are
    any, and decoding alone.
    """

    name: str
    unit: str
    told: str
    files: list[Path]
    alone: list[Path]
    least: Path
    items: int
    bare: BareLoop
    contestants: list[Contestant]
    stages: Stages
    options: tuple[str, ...] = ()
    clip: bool = False
    least_seconds: list[float] = field(default_factory=list)
    alone_seconds: list[float] = field(default_factory=list)
    bare_watched: Watched = field(default_factory=Watched)
    whole_watched: Watched = field(default_factory=Watched)

    def warm_up(self) -> None:
        """Let each contestant do a few files, so that models, Beam and Great Expectations are loaded."""
        with _few(self.files, 1 if self.clip else 2 * CORES) as few:
            Pipeline(self.options)(few)
            for contestant in self.contestants[1:]:
                contestant.work(few)
        self.bare.seconds.clear()

    def turn(self) -> None:
        """Let all contestants do their work once, then measure what one thread does, and the smallest run there is."""
        for contestant in self.contestants:
            contestant.turn()
            say(f"  {self.name}: {contestant.name}: {contestant.rates[-1]:.1f} {self.unit}s/s")
        self.stages.lap()
        self._alone()
        with _few([self.least], 1) as one:
            started = time.perf_counter()
            Pipeline(self.options)(one)
            self.least_seconds.append(time.perf_counter() - started)

    def _alone(self) -> None:
        """Let the bare loop do some files in one thread, while its parts are timed."""
        loop = BareLoop(self.bare.engine)
        one = loop.clip if self.clip else loop.one
        with self.bare_watched.work(self.stages.items, time.thread_time):
            for path in self.alone:
                one(path)
        self.alone_seconds += loop.seconds

    def watch(self) -> None:
        """Let the pipeline do its work once more, while its parts are timed."""
        with self.whole_watched.work(self.items, time.process_time):
            self.contestants[0].work(self.files)


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _few(files: Sequence[Path], count: int) -> Iterator[list[Path]]:
    """Give copies of the first files, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as name:
        few = []
        for path in files[:count]:
            few.append(Path(name) / path.name)
            few[-1].write_bytes(path.read_bytes())
        yield few


@cache
def _engine(detector: str | None) -> Engine:
    return Engine(device="cpu", detector=detector, detect_size=DETECT_SIZE)


def _pictures(name: str, told: str, folder: Path, size: Size) -> Kind:
    files = sorted(folder.iterdir())
    alone = files[: size.alone]
    bare = BareLoop(_engine(None))
    # At 1080p OpenCV takes five times as long as all others together: a quarter of the files tells its rate as well.
    some = files if name == "vga" else files[::4]
    detectors = [Contestant(OWN_SIZE, spread_over_cores(OpenCv(None).one), some, len(some))]
    if name != "vga":  # where the two are one
        detectors.append(Contestant(SMALL, spread_over_cores(OpenCv(DETECT_SIZE).one), some, len(some)))
    contestants = [
        Contestant(PIPELINE, Pipeline((), len(files)), files, len(files)),
        Contestant(BARE, spread_over_cores(bare.one), files, len(files)),
        *detectors,
        Contestant(DECODE, spread_over_cores(decode_one), files, len(files)),
    ]
    stages = Stages(bare.engine, alone, clip=False)
    return Kind(name, "picture", told, files, alone, files[0], len(files), bare, contestants, stages)


def _video(size: Size) -> Kind:
    told, folder = composed.clips(size.clips, size.frames)
    files, frames = sorted(folder.iterdir()), size.clips * size.frames
    alone = files[: max(1, size.alone // size.frames)]
    (one_frame,) = composed.clips(1, 1)[1].iterdir()
    bare = BareLoop(_engine(None))
    contestants = [
        Contestant(PIPELINE, Pipeline((), frames), files, frames),
        Contestant(BARE, spread_over_cores(bare.clip), files, frames),
        Contestant(DECODE, spread_over_cores(decode_clip), files, frames),
    ]
    stages = Stages(bare.engine, alone, clip=True)
    return Kind("video", "frame", told, files, alone, one_frame, frames, bare, contestants, stages, clip=True)


def _crops(size: Size) -> Kind:
    told, folder = composed.crops(size.crops)
    files, options = sorted(folder.iterdir()), ("--detector=none",)
    alone = files[: size.crops_alone]
    bare = BareLoop(_engine("none"))
    contestants = [
        Contestant(PIPELINE, Pipeline(options, len(files)), files, len(files)),
        Contestant(BARE, spread_over_cores(bare.one), files, len(files)),
        Contestant(DECODE, spread_over_cores(decode_one), files, len(files)),
    ]
    stages = Stages(bare.engine, alone, clip=False)
    return Kind("crops", "crop", told, files, alone, files[0], len(files), bare, contestants, stages, options)


MAKERS: dict[str, Callable[[Size], Kind]] = {
    "vga": lambda size: _pictures("vga", *composed.pictures(size.pictures, 640, 480), size),
    "hd": lambda size: _pictures("hd", *composed.pictures(size.large_pictures, *composed.FULL_HD), size),
    "video": _video,
    "crops": _crops,
    "photos": lambda size: _pictures("photos", *inputs.variants(size.pictures, DETECT_SIZE, 1920), size),
}
"""What makes each kind, by its name."""
