"""Plans of a stream: the offsets that one epoch covers, and the items that its messages mean."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from pipelines.planning import Plan
from pipelines.roots import Root
from schemas.errors import ItemError
from schemas.layout import STREAM
from schemas.records import Clip, ImageRef, PlannedItem, item_key
from transforms.kafka.reader import Offsets
from transforms.messages import AllowedRoots, Arrival, Record, arrivals, held
from transforms.sampling import ALL
from transforms.storage import holding, sha256_of
from transforms.video_index import clips, index_of, video_kind

PARTS = 100
"""Shards of one cut of an epoch at most: five million frames."""

Told = dict[str, dict[str, int]]
"""Offsets as a manifest tells them: by topic, then by the number of the partition."""


def told_offsets(offsets: Mapping[tuple[str, int], int]) -> Told:
    """Return offsets as plain JSON, in order."""
    told: Told = {}
    for (topic, partition), offset in sorted(offsets.items()):
        told.setdefault(topic, {})[str(partition)] = offset
    return told


def offsets_of(told: Told) -> Offsets:
    """Return the offsets that `told_offsets` told."""
    return {(topic, int(number)): offset for topic, numbers in told.items() for number, offset in numbers.items()}


@dataclass(frozen=True)
class Gap:
    """Offsets that the broker had deleted before they were read; `until` is the first that is there."""

    topic: str
    partition: int
    start: int
    until: int


@dataclass(frozen=True)
class Care:
    """How a range in which an epoch broke is gone through: at most `most` messages at once, up to `until`."""

    most: int
    until: Offsets


@dataclass(frozen=True)
class Ranges:
    """What an epoch covers: each partition from `starts` up to `ends`; `next` is where every partition goes on then.

    `topics` are the ids of all topics, which tell a topic from another that was made anew under its name. `publishes`
    names the topics to which the epoch's results go, by their purpose. `attempt` counts how often this was begun, `cut`
    how often the epoch was planned anew, as something smaller. `poison` says why its only message is not worked on any
    more, empty where it is.
    """

    servers: str
    topics: dict[str, str]
    starts: Offsets
    ends: Offsets
    next: Offsets
    gaps: tuple[Gap, ...]
    publishes: dict[str, str]
    care: Care | None
    attempt: int
    cut: int
    poison: str

    def to_told(self) -> dict[str, Any]:
        """Return the ranges as plain JSON values."""
        told = {
            "servers": self.servers,
            "topics": self.topics,
            "starts": told_offsets(self.starts),
            "ends": told_offsets(self.ends),
            "next": told_offsets(self.next),
            "gaps": [asdict(gap) for gap in self.gaps],
            "publishes": self.publishes,
            "attempt": self.attempt,
            "cut": self.cut,
            "poison": self.poison,
        }
        if self.care is not None:
            told["care"] = {"most": self.care.most, "until": told_offsets(self.care.until)}
        return told

    @staticmethod
    def of(told: Mapping[str, Any]) -> "Ranges":
        """Return the ranges that `to_told` told."""
        care = told.get("care")
        return Ranges(
            servers=told["servers"],
            topics=dict(told["topics"]),
            starts=offsets_of(told["starts"]),
            ends=offsets_of(told["ends"]),
            next=offsets_of(told["next"]),
            gaps=tuple(Gap(**gap) for gap in told["gaps"]),
            publishes=dict(told["publishes"]),
            care=Care(care["most"], offsets_of(care["until"])) if care else None,
            attempt=told["attempt"],
            cut=told["cut"],
            poison=told["poison"],
        )


@dataclass(frozen=True)
class StreamPlan(Plan):
    """A plan of offset ranges. The file tells the ranges; the items follow from the messages, which are read again.

    `held` are the bytes of the messages by the names under which the steps read them; `records` counts them.
    """

    ranges: Ranges
    held: Mapping[str, bytes]
    records: int

    def behind(self, part: int) -> Self:
        """Return the same plan with other shards than those up to this number."""
        cut = part // PARTS + 1
        return replace(self, ranges=replace(self.ranges, cut=cut), first_part=cut * PARTS)

    def owns(self, part: int) -> bool:
        """Tell whether the epoch's shard of this number is this plan's."""
        return self.first_part <= part < self.first_part + PARTS

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""
        told = {
            "kind": STREAM,
            "epoch": self.epoch,
            "configuration": self.configuration,
            "roots": [asdict(root) for root in self.roots],
            "supersedes": [],
            "stream": self.ranges.to_told(),
        }
        return json.dumps(told, separators=(",", ":")).encode("ascii")

    def require_whole(self, outcomes: Mapping[str, int], shards: Mapping[str, list[str]]) -> dict[str, Any]:
        """Raise `RunError` where a message is in no table; return what the manifest says of the stream."""
        super().require_whole(outcomes, shards)
        sizes = {"messages": self.records, "bytes": sum(map(len, self.held.values()))}
        return {"stream": self.ranges.to_told() | sizes}


def plan_of(
    epoch: int,
    configuration: dict[str, Any],
    root: Root,
    fresh: tuple[Root, ...],
    ranges: Ranges,
    records: Sequence[Record],
    allowed: AllowedRoots,
) -> StreamPlan:
    """Return the plan of an epoch that covers these records. The bytes must be `holding` when it runs."""
    contents = dict(map(held, records))
    with holding(contents):  # a video is looked into to plan its frames
        items = tuple(_items(records, configuration, root, ranges, allowed))
    # What an epoch was planned as before has shards of other names: a run that hangs may still write them.
    first_part = ranges.cut * PARTS
    return StreamPlan(epoch, configuration, fresh, items, (), ranges, contents, len(records), first_part=first_part)


def _items(
    records: Iterable[Record], configuration: dict[str, Any], root: Root, ranges: Ranges, allowed: AllowedRoots
) -> Iterator[PlannedItem]:
    number = 0
    for record in records:
        for arrival in arrivals(record, allowed):
            ref = _ref(number, arrival, root, ranges.topics.get(record.topic, ""))
            number += 1
            if ranges.poison:
                ref = _failing(ref, ItemError("broke_the_run", ranges.poison))
            yield from _parts(ref, arrival, configuration)


def _ref(number: int, arrival: Arrival, root: Root, topic_id: str) -> ImageRef:
    mtime_ns = None if arrival.timestamp_ms is None else arrival.timestamp_ms * 1_000_000
    size = arrival.size if arrival.size >= 0 else _size(arrival.uri)
    key = item_key(root.number, arrival.name, size, topic_id)
    return ImageRef(number, key, root.number, arrival.uri, arrival.name, size, mtime_ns, 0, arrival.sent)


def _size(uri: str) -> int:
    try:
        return Path(uri).stat().st_size
    except (OSError, ValueError):
        return -1  # reading says why


def _parts(ref: ImageRef, arrival: Arrival, configuration: dict[str, Any]) -> Iterator[PlannedItem]:
    """Yield the item as it is planned: a picture whole, a video in clips."""
    if ref.sent is None or ref.sent.error:
        yield PlannedItem(ref, "", (), None, None)
        return
    most = configuration["max_pixels"]
    kind = video_kind(ref.uri, most)
    try:
        if kind is None:
            if arrival.pts is not None:
                raise ItemError("no_video", 'expected a video, because the reference has a "pts"; found none')
            yield PlannedItem(ref, "", (), None, None)
            return
        if ref.sent.span is not None:
            raise ItemError("unsupported", "a byte range of a video cannot be read: name the whole file")
        index = index_of(ref.uri, kind, most)
        if arrival.pts is None:
            planned = list(clips(index, configuration["frames"]))
        else:
            planned = [_only(clips(index, ALL), arrival.pts)]
        sha256 = sha256_of(ref.uri)
    except ItemError as error:
        yield PlannedItem(_failing(ref, error), "", (), None, None)
        return
    base = _based(ref, planned[0], arrival.pts)
    for clip in planned:
        yield PlannedItem(base, sha256, (), None, clip)


def _only(planned: Iterable[Clip], pts: int) -> Clip:
    """Return the clip of the one frame that is shown at `pts`."""
    for clip in planned:
        if pts in clip.pts:
            at = clip.pts.index(pts)
            cut = {name: getattr(clip, name)[at : at + 1] for name in ("pts", "frames", "starts")}
            return replace(clip, **cut, last=True, error="", message="")
    raise ItemError("no_such_frame", f"the video has no frame at pts {pts}")


def _based(ref: ImageRef, first: Clip, pts: int | None) -> ImageRef:
    """Return the reference with the time of PTS 0: the message's is that of the first frame, or of the one named."""
    shown = pts if pts is not None else first.pts[0] if first.pts else 0
    if ref.mtime_ns is None:
        return ref
    return replace(ref, mtime_ns=ref.mtime_ns - int(shown * Fraction(*first.time_base) * 1_000_000_000))


def _failing(ref: ImageRef, error: ItemError) -> ImageRef:
    assert ref.sent is not None
    return replace(ref, sent=replace(ref.sent, error=error.error, message=str(error)))
