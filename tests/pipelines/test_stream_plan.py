"""From messages to plans: what is planned of pictures, videos and references, and how a range that breaks is parted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.roots import Root
from pipelines.stream_plan import Care, Gap, Ranges, StreamPlan, plan_of
from pipelines.streaming import TRIES, apart
from schemas.layout import STREAM
from schemas.records import PlannedItem
from tests.videos import B_FRAMES, encode
from transforms.messages import AllowedRoots, Record

NOW = 1_790_000_000_000
CONFIGURATION = {"max_pixels": 64_000_000, "frames": "all"}
RANGES = Ranges(
    servers="localhost:9092",
    topics={"frames": "id"},
    starts={("frames", 0): 5, ("frames", 1): 0},
    ends={("frames", 0): 9, ("frames", 1): 3},
    next={("frames", 0): 9, ("frames", 1): 3, ("frames", 2): 7},
    gaps=(Gap("frames", 0, 2, 5),),
    publishes={"results": "labels"},
    care=None,
    attempt=1,
    cut=0,
    poison="",
)


def record(value: bytes | None, offset: int = 0, partition: int = 0, **headers: str) -> Record:
    told = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
    return Record("frames", partition, offset, NOW, None, value, told)


def planned(*records: Record, allowed: AllowedRoots | None = None, ranges: Ranges = RANGES) -> StreamPlan:
    root = Root(0, "kafka://localhost:9092", ("mark", "mark"))
    return plan_of(7, CONFIGURATION, root, (), ranges, records, allowed or AllowedRoots((), ()))


def the(plan: StreamPlan) -> PlannedItem:
    [item] = plan.items
    return item


def test_every_message_is_an_item() -> None:
    """Pictures, tombstones and nonsense alike, numbered in their order, with keys of their own."""
    plan = planned(*(record(value, offset) for offset, value in enumerate([b"\xff\xd8\xff", None, b"", b"junk"])))
    assert [item.ref.file_name for item in plan.items] == [f"frames/0/{offset}" for offset in range(4)]
    assert [item.ref.number for item in plan.items] == [0, 1, 2, 3]
    assert len({item.ref.key for item in plan.items}) == 4
    assert plan.records == plan.pictures == 4


def test_the_same_bytes_twice_are_two_items() -> None:
    """A face that does not move is data: frames of a stream are never copies."""
    plan = planned(record(b"\xff\xd8\xff", 1), record(b"\xff\xd8\xff", 2))
    assert [item.copies for item in plan.items] == [(), ()]


def test_the_plan_s_file_tells_offsets_and_no_message() -> None:
    """What it covers is read again from the topic: the file is small and says the same after a round trip."""
    plan = planned(record(b"\xff\xd8\xff" * 1000))
    told = json.loads(plan.to_json())
    assert told["kind"] == STREAM
    assert len(plan.to_json()) < 1000
    assert Ranges.of(told[STREAM]) == RANGES
    careful = replace(RANGES, care=Care(3, {("frames", 0): 9}), attempt=2, poison="why")
    assert Ranges.of(json.loads(json.dumps(careful.to_told()))) == careful


def test_a_segment_s_frames_follow_the_message_s_time(tmp_path: Path) -> None:
    """The first frame has the message's time, whatever PTS the segment begins with."""
    video = encode(tmp_path / "segment.ts", options=B_FRAMES)
    item = the(planned(record(video.read_bytes(), content_type="video/mp2t", source_id="gate")))
    assert item.clip is not None
    assert item.ref.mtime_ns is not None
    first_ms = item.clip.pts[0] * item.clip.time_base[0] * 1000 / item.clip.time_base[1]
    assert item.clip.pts[0] > 0
    assert item.ref.mtime_ns / 1e6 + first_ms == pytest.approx(NOW, abs=1)


def test_a_reference_names_a_picture_a_video_or_one_of_its_frames(tmp_path: Path) -> None:
    """By its path; one frame by its PTS, with the message's time."""
    video = encode(tmp_path / "a.mp4")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    allowed = AllowedRoots.of([str(tmp_path)])
    picture = the(planned(record(json.dumps({"uri": f"{tmp_path}/a.jpg"}).encode()), allowed=allowed))
    assert (picture.clip, picture.ref.uri, picture.ref.file_name) == (None, f"{tmp_path}/a.jpg", "frames/0/0")
    whole = the(planned(record(json.dumps({"uri": str(video)}).encode()), allowed=allowed))
    assert whole.clip is not None
    pts = whole.clip.pts[3]
    one = the(planned(record(json.dumps({"uri": str(video), "pts": pts}).encode()), allowed=allowed))
    assert one.clip is not None
    assert (one.clip.pts, one.clip.frames, one.clip.last) == ((pts,), (3,), True)
    missing = the(planned(record(json.dumps({"uri": str(video), "pts": pts + 1}).encode()), allowed=allowed))
    assert missing.ref.sent is not None
    assert (missing.clip, missing.ref.sent.error) == (None, "no_such_frame")
    none = the(planned(record(json.dumps({"uri": f"{tmp_path}/a.jpg", "pts": 0}).encode()), allowed=allowed))
    assert none.ref.sent is not None
    assert none.ref.sent.error == "no_video"


def test_a_message_that_broke_the_run_is_not_worked_on() -> None:
    """Its item fails, and says why."""
    item = the(planned(record(b"\xff\xd8\xff"), ranges=replace(RANGES, poison="the run broke 3 times")))
    assert item.ref.sent is not None
    assert (item.ref.sent.error, item.ref.sent.message) == ("broke_the_run", "the run broke 3 times")


@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=4).filter(any),
    poison=st.integers(0, 10_000),
)
def test_halving_finds_the_message_that_breaks(sizes: list[int], poison: int) -> None:
    """However many messages and partitions: it is given up alone, and each other one is done exactly once."""
    everything = [record(b"x", offset, part) for part, size in enumerate(sizes) for offset in range(size)]
    bad = everything[poison % len(everything)]
    at = {("frames", part): 0 for part in range(len(sizes))}
    ends = {("frames", part): size for part, size in enumerate(sizes)}
    done: list[Record] = []
    given_up: list[Record] = []
    care: Care | None = None
    for _ in range(2000):
        left = [each for each in everything if each.offset >= at[each.topic, each.partition]]
        if not left:
            break
        batch = left if care is None else left[: care.most]
        reached = dict(at)
        for each in batch:
            reached[each.topic, each.partition] = each.offset + 1
        moved = {place for place in at if reached[place] > at[place]}
        ranges = replace(
            RANGES,
            starts={place: at[place] for place in moved},
            ends={place: reached[place] for place in moved},
            next=reached,
            care=care,
        )
        while bad in batch and not ranges.poison:
            ranges = apart(ranges, batch, "it broke")
            batch = [each for each in batch if each.offset < ranges.ends.get((each.topic, each.partition), 0)]
        (given_up if ranges.poison else done).extend(batch)
        at |= ranges.next
        care = ranges.care
    assert given_up == [bad]
    assert sorted(each.name for each in [*done, bad]) == sorted(each.name for each in everything)
    assert at == ends


def test_an_epoch_is_tried_again_before_it_is_taken_apart() -> None:
    """What breaks once may have been the machine."""
    records = [record(b"x", offset) for offset in range(5, 9)]
    ranges = replace(RANGES, starts={("frames", 0): 5}, ends={("frames", 0): 9})
    for attempt in range(2, TRIES + 1):
        ranges = apart(ranges, records, "")
        assert (ranges.attempt, ranges.ends) == (attempt, {("frames", 0): 9})
    assert apart(ranges, records, "").ends == {("frames", 0): 7}
