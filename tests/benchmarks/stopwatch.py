"""Where the processor's time goes: functions of the flow are timed while it runs, each without those inside it.

Time is the processor's own, of the thread that works, so other work on the machine does not count. What a library does
in threads of its own is not seen here: it is in what is left of the process's time.
"""

import functools
import importlib
import inspect
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

READ, DECODE, TO_RGB = "read, header, hash", "decode", "to RGB"
RESIZE, CANVAS, BOXES, DETECT = "resize", "detector's canvas", "boxes of its outputs, NMS", "around the detector"
CROP, CLASSIFY = "crops", "around the classifier"
ROWS, CLEAN, VALIDATE, WRITE = "rows, Arrow", "clean", "validate", "write"
PLAN, COMMIT, REPORT = "list, plan", "commit, summary", "report page"
BUILD, BEAM, FREE = "build the flow", "Beam's own thread", "collect garbage"
DETECTOR_NET, CLASSIFIER_NET = "detector's net", "classifier's net"

PARTS = {
    READ: ("transforms.decode:_DecodeBatches._read", "transforms.decode:_DecodeBatches._decode"),
    DECODE: (
        "transforms.decode:decode",
        "transforms.video:Source.packets",
        "transforms.video:_Feed.give",
        "transforms.video:_Feed.rest",
        "tests.benchmarks.contestants:picture",
        "tests.benchmarks.contestants:frames_of",
    ),
    TO_RGB: ("transforms.video:_Pictures.rgb", "tests.benchmarks.contestants:to_rgb"),
    RESIZE: ("transforms.models.views:whole", "transforms.models.views:padded"),
    CANVAS: ("transforms.models.yunet:Yunet._canvas",),
    DETECTOR_NET: (),
    BOXES: ("transforms.models.yunet:Yunet.__call__",),
    DETECT: (
        "transforms.models.detectors:NetDetector.detect",
        "transforms.models.detectors:NoDetector.detect",
        "transforms.detect:find_faces",
    ),
    CROP: ("transforms.models.classifiers:crop_faces", "transforms.align:align"),
    CLASSIFIER_NET: (),
    CLASSIFY: (
        "transforms.models.crop_net:CropNet.run",
        "transforms.models.classifiers:CropClassifier.classify",
        "transforms.infer:classify",
    ),
    ROWS: (
        "transforms.infer:batch_rows",
        "transforms.batch:TablesCoder.encode",
        "transforms.batch:TablesCoder.decode",
    ),
    CLEAN: ("transforms.clean:gather", "transforms.clean:clean"),
    VALIDATE: ("transforms.validate:judge", "transforms.validate:hold_back"),
    WRITE: ("transforms.write:parquet_bytes", "transforms.write:write_atomic"),
    PLAN: (
        "pipelines.annotate:_count",
        "pipelines.planning:Planner.next",
        "pipelines.planning:Planner._content",
        "pipelines.epochs:_remember",
    ),
    COMMIT: ("pipelines.epochs:_commit", "pipelines.summary:summarise", "pipelines.summary:write_summary"),
    REPORT: ("pipelines.report:write_report",),
    BUILD: ("pipelines.flow:build",),
    BEAM: ("pipelines.runners:run_pipeline", "pipelines.runners:Repeated.run"),
    FREE: ("pipelines.labelling:give_back", "pipelines.labelling:settle"),
}
"""What is timed, as module:function, by the row that it belongs to, in the order of the flow."""

REST = "all else"

NET = "transforms.models.runtime:Net.run"
_NETS = {BOXES: DETECTOR_NET, CLASSIFY: CLASSIFIER_NET}
"""Whose net it is, by the row from which it is run."""


@dataclass
class Watched:
    """What was timed of so many items: the parts, and the processor's and the clock's seconds of the whole."""

    watch: "Stopwatch" = field(default_factory=lambda: Stopwatch())
    cpu: float = 0.0
    wall: float = 0.0
    items: int = 0

    @contextmanager
    def work(self, items: int, clock: Callable[[], float]) -> Iterator[None]:
        """Time the block, which does so many items; `clock` tells the processor's seconds of all that is to count."""
        with self.watch.watching():
            cpu, wall = clock(), time.perf_counter()
            yield
            self.cpu += clock() - cpu
            self.wall += time.perf_counter() - wall
        self.items += items

    def ms(self) -> dict[str, float]:
        """Return the processor's milliseconds an item by part, and what is left of the whole as `REST`."""
        seconds = dict(self.watch.seconds) | {REST: self.cpu - sum(self.watch.seconds.values())}
        return {row: 1000 * each / self.items for row, each in seconds.items()}

    def inputs_of(self, net: str) -> Counter[tuple[int, ...]]:
        """Return how many inputs of each shape the net of this row was given."""
        return Counter({shape: count for (row, shape), count in self.watch.inputs.items() if row == net})


class Stopwatch:
    """Adds up seconds by row, and how many inputs of each shape the nets were given."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.inputs: Counter[tuple[str, tuple[int, ...]]] = Counter()
        self._lock = threading.Lock()
        self._own = threading.local()

    @contextmanager
    def part(self, row: str) -> Iterator[None]:
        """Count the block's time to `row`, without that of parts inside it."""
        stack = self._stack()
        inside = [0.0]
        stack.append((row, inside))
        started = self._clock()
        try:
            yield
        finally:
            passed = self._clock() - started
            stack.pop()
            if stack:
                stack[-1][1][0] += passed
            with self._lock:
                self.seconds[row] += passed - inside[0]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time all of `PARTS` within the block, in all threads."""
        with ExitStack() as undone:
            for row, places in PARTS.items():
                for place in places:
                    undone.enter_context(_replaced(place, functools.partial(self._timed, row)))
            undone.enter_context(_replaced(NET, self._timed_net))
            yield

    def _stack(self) -> list[tuple[str, list[float]]]:
        if not hasattr(self._own, "stack"):
            self._own.stack = []
        stack: list[tuple[str, list[float]]] = self._own.stack
        return stack

    def _timed(self, row: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(row):
                return function(*arguments, **named)

        @functools.wraps(function)
        def timed_items(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = function(*arguments, **named)
            end = object()
            try:
                while True:
                    with self.part(row):
                        item = next(items, end)
                    if item is end:
                        return
                    yield item
            finally:
                items.close()

        return timed_items if inspect.isgeneratorfunction(function) else timed

    def _timed_net(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def timed(net: Any, rows: Any, outputs: Any) -> Any:
            stack = self._stack()
            row = _NETS[stack[-1][0]]
            with self._lock:
                self.inputs[row, rows.shape[1:]] += len(rows)
            with self.part(row):
                return run(net, rows, outputs)

        return timed


@contextmanager
def _replaced(place: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Let `by` of the function stand in its place within the block."""
    owner, name = found(place)
    before = vars(owner)[name]
    setattr(owner, name, by(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def found(place: str) -> tuple[Any, str]:
    """Return the module or class that a place names, and the name of the function in it."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    if not inspect.isfunction(vars(owner).get(name)):
        raise LookupError(f"{place}: there is no such function any more; correct it in {__name__}")
    return owner, name
