"""Plan: which listed files are new, changed or to be tried again, cut into epochs of a fixed number of items."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.committed import Committed, Pairs, keys_of, names_of
from pipelines.dataset import Dataset, Manifest, read_json
from pipelines.roots import Root, Roots
from schemas.errors import ItemError, RunError
from schemas.layout import PLANS, part_behind
from schemas.reasons import Duplicates
from schemas.records import Clip, ImageRef, PlannedItem, Standing, image_id, item_key, version
from transforms.buckets.names import is_remote
from transforms.places import Place
from transforms.shards import scan_shards
from transforms.source import UNREADABLE, InputFile, is_skipped
from transforms.storage import printable, sha256_of, state_of
from transforms.video_index import CLIP_FRAMES, Stopped, clips, index_of, video_kind

Kind = Callable[[], str | None]
"""Tells the kind of a file that is a video, None for a picture; may take its time."""


@dataclass(frozen=True)
class Plan:
    """Exactly what one epoch covers, and under which configuration."""

    epoch: int
    configuration: dict[str, Any]
    roots: tuple[Root, ...]
    items: tuple[PlannedItem, ...]
    supersedes: tuple[str, ...]
    first_part: int = field(default=0, kw_only=True)  # the number of the epoch's first shard

    @property
    def pictures(self) -> int:
        """How many pictures the plan covers, copies included; those of a video too."""
        return sum(len(item.refs()) - (item.clip is not None) for item in self.items)

    @property
    def videos(self) -> dict[str, int | None]:
        """The keys of the videos of which the plan covers frames, and how many; null where only decoding tells."""
        frames: dict[str, int | None] = {}
        for item in self.items:
            if item.clip is not None:
                before = frames.get(item.ref.key, 0)
                frames[item.ref.key] = before + len(item.clip.pts) if item.clip.listed and before is not None else None
        return frames

    @property
    def unfinished(self) -> dict[str, int | None]:
        """The keys of these videos, each with the PTS behind which a later plan goes on; null where none does."""
        last = {item.ref.key: item.clip for item in self.items if item.clip is not None}
        return {key: None if clip.last else clip.pts[-1] for key, clip in last.items()}

    def behind(self, part: int) -> Self:
        """Return the same plan with other shards than those up to this number."""
        return replace(self, first_part=part_behind(part))

    def owns(self, part: int) -> bool:
        """Tell whether the epoch's shard of this number is this plan's."""
        return part >= self.first_part

    def to_json(self) -> bytes:
        """Return the plan as the JSON file that makes it durable."""
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii")

    def require_whole(self, outcomes: Mapping[str, int], shards: Mapping[str, list[str]]) -> dict[str, Any]:
        """Raise `RunError` where something planned is in no table; return where each video goes on.

        A picture has exactly one row. A video has a row for each planned frame, or it has failed.
        """
        failures = scan_shards(shards["failures"])
        frames = scan_shards(shards["images"]).filter(pl.col("video_id").is_not_null())
        counted = dict(frames.group_by("item_key").len().collect().iter_rows())
        keys = failures.select("item_key").collect()["item_key"]
        failed, videos = set(keys), self.videos
        of_videos = sum(counted.values()) + keys.is_in(list(videos)).sum()
        pictures = sum(outcomes.values()) - of_videos
        short = [
            key for key, most in videos.items() if key not in failed and not 0 < counted.get(key, 0) >= (most or 0)
        ]
        over = [key for key, most in videos.items() if most is not None and counted.get(key, 0) > most]
        if pictures != self.pictures or short or over:
            raise RunError(
                f"epoch {self.epoch} planned {self.pictures} pictures and has {pictures} ({dict(outcomes)}), and of "
                f"{len(videos)} videos {len(short) + len(over)} have not their planned frames: nothing of it was "
                "committed; run again, and report this as a defect if it stays"
            )
        broken = failed & broken_videos(failures)
        return {"unfinished": {key: None if key in broken else pts for key, pts in self.unfinished.items()}}

    @staticmethod
    def of(told: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` told."""
        from transforms.batch import planned_item  # loads Beam, which most nights' planning needs not

        return Plan(
            epoch=told["epoch"],
            configuration=told["configuration"],
            roots=tuple(Root(root["number"], root["name"], tuple(root["marks"])) for root in told["roots"]),
            items=tuple(planned_item(item) for item in told["items"]),
            supersedes=tuple(told["supersedes"]),
            first_part=told.get("first_part", 0),
        )


def items_of(item: PlannedItem) -> int:
    """Return how many items the planned one covers: a picture and its copies, or a clip's frames."""
    return len(item.refs()) if item.clip is None else max(1, len(item.clip.pts))


def broken_videos(failures: pl.LazyFrame) -> set[str]:
    """Return the keys of the items behind whose failure nothing more can be read."""
    ends = (pl.col("step").cast(pl.String) == "decode") & (pl.col("error") != "missing_frames")
    return set(failures.filter(ends).select("item_key").collect()["item_key"])


@dataclass(frozen=True)
class Chunk:
    """Some listed files, each with its name in its root and the roots in which it may be committed.

    These are numbers: of its own root, then of former ones. `announced` tells how many roots were known when the chunk
    was begun.
    """

    announced: int
    files: list[InputFile]
    file_names: list[str]
    roots: list[tuple[int, ...]]

    @cached_property
    def owners(self) -> NDArray[np.intp]:
        """Which file each of the tries is about: a file has one for each of its roots."""
        return np.repeat(np.arange(len(self.files)), [len(each) for each in self.roots])

    @cached_property
    def tried(self) -> list[int]:
        """The root of each try."""
        return [root for each in self.roots for root in each]

    @cached_property
    def keys(self) -> list[str]:
        """The item key that the file of each try has there."""
        told = zip(self.roots, self.file_names, self.files, strict=True)
        return [item_key(root, name, file.size, file.version) for each, name, file in told for root in each]

    @cached_property
    def hashes(self) -> tuple[Pairs, Pairs]:
        """The hashes of the tries' names, and their keys."""
        names = (name for each, name in zip(self.roots, self.file_names, strict=True) for _ in each)
        return names_of(self.tried, names), keys_of(self.keys)


def chunks(files: Iterable[InputFile], roots: Roots) -> Iterator[Chunk]:
    """Yield the files in order, many at a time; a root that nobody knew begins a chunk."""
    chunk = Chunk(len(roots.known), [], [], [])
    above, last_root, last_folder = "", "", ""
    numbers: tuple[int, ...] = ()
    for file in files:
        base = file.file_name.rpartition("/")[2]
        folder = file.file_name.removesuffix(base)
        if folder != last_folder or file.root != last_root or not chunk.files:
            last_root, last_folder = file.root, folder
            root, file_name = roots.place(file.root, file.file_name)
            numbers = (root.number, *(one.number for one in roots.former(root)))
            above = file_name.removesuffix(base)
            if len(roots.known) > chunk.announced:
                if chunk.files:
                    yield chunk
                chunk = Chunk(len(roots.known), [], [], [])
        chunk.files.append(file)
        chunk.file_names.append(above + base)
        chunk.roots.append(numbers)
        if len(chunk.files) == _CHUNK_FILES:
            yield chunk
            chunk = Chunk(len(roots.known), [], [], [])
    if chunk.files:
        yield chunk


_CHUNK_FILES = 4096
"""Files that are looked up at once."""


@dataclass(frozen=True)
class _Candidate:
    ref: ImageRef
    supersedes: str | None  # the key of the item whose rows it replaces
    sha256: str  # '' for a picture: its bytes are read only if there may be copies
    clip: Clip | None  # also null for a video that is a copy of another


@dataclass(frozen=True)
class _Unsettled:
    """A file of a chunk with which something is to be done.

    `owner` is its number in the chunk, `number` that of the try under which it goes. `before` is the key that is
    committed there, null for none, and `attempts` how often that failed; `is_same` tells whether the file has it today.
    """

    owner: int
    number: int
    before: str | None
    attempts: int
    is_same: bool


def _shortened(one: _Candidate, most: int) -> _Candidate:
    """Return the candidate with at most `most` frames; a later run goes on behind them."""
    if one.clip is None or len(one.clip.pts) <= most:
        return one
    cut = {name: getattr(one.clip, name)[:most] for name in ("pts", "frames", "starts")}
    return replace(one, clip=replace(one.clip, **cut, last=False, error="", message=""))


class Planner:
    """Turns a listing into plans, one at a time, against what is committed by then."""

    def __init__(
        self,
        dataset: Dataset,
        files: Iterable[InputFile],
        configuration: dict[str, Any],
        *,
        epoch_items: int,
        retry_failed: bool,
        limit: int | None = None,
        whole: Sequence[str] = (),
    ) -> None:
        """`limit` is how many items are planned in all; null for no limit.

        `whole` are the roots of which `files` hold all there is; it may grow while they are read.
        """
        self.dataset = dataset
        self.configuration = configuration
        self.epoch_items = epoch_items
        self.retry_failed = retry_failed
        self.find_copies = configuration["duplicates"] != Duplicates.KEEP
        self.committed = Committed(dataset, self.find_copies)
        self.left = limit
        self.more_items = 0  # what the videos seen so far have over one item a file
        self.plans = 0
        self.planned_videos: set[str] = set()  # sha256 of those of which the coming plan has the first clip
        self.taken_back: list[str] = []  # keys of changed files, whose rows the coming plan supersedes
        self.roots = Roots(dataset)
        self.announced = len(self.roots.known)
        self.reached = self.announced  # roots that the candidates so far have told of
        self.whole = whole
        self.closed: list[tuple[int, str]] = []  # root and name of what is there in name only, and may be a folder
        self.is_exhausted = False
        self.candidates = self._candidates(files)

    def next(self, epoch: int) -> Plan | None:
        """Return the plan of the next epoch, or None when nothing is left to do."""
        chosen: list[_Candidate] = []
        self.plans += 1
        self.planned_videos.clear()
        self.taken_back.clear()
        items = 0
        most = self.epoch_items if self.left is None else min(self.epoch_items, self.left)
        while items < most and (group := next(self.candidates, None)):
            if self.left is not None:
                group = [_shortened(one, self.left - items) for one in group]
            chosen += group
            items += sum(1 if one.clip is None else max(1, len(one.clip.pts)) for one in group)
        if not chosen:
            return None
        if self.left is not None:
            self.left = max(0, self.left - items)
        refs = [ImageRef(**{**asdict(one.ref), "number": number}) for number, one in enumerate(chosen)]
        supersedes = sorted({one.supersedes for one in chosen if one.supersedes})
        fresh = tuple(self.roots.known[self.announced : self.reached])
        self.announced = self.reached
        gone = self.committed.pictures_of(supersedes)
        return Plan(epoch, self.configuration, fresh, tuple(self._items(chosen, refs, gone)), tuple(supersedes))

    def adopt(self, plan: Plan) -> None:
        """Take over the roots of a plan that an earlier run left unfinished; call it before `next`."""
        self.roots.learn(map(asdict, plan.roots))
        self.announced = self.reached = len(self.roots.known)

    def add(self, manifest: Manifest) -> None:
        """Take in a commit."""
        self.committed.add(manifest)
        if self.committed.changes % _SAVE_EPOCHS == 0:
            self.save()

    def save(self) -> None:
        """Keep what is known of the data set, so that the next run need not learn it; the caller holds the lock."""
        self.committed.save()

    def missing(self) -> pl.DataFrame | None:
        """Return the committed files of roots that were listed whole, but they were not: root, file_name, source_uri.

        Null where the listing was not read to its end. What lies in a folder that could not be opened is not missing,
        nor what such a listing passes over.
        """
        if not self.is_exhausted:
            return None
        places = self._listed_whole()
        unseen = self.committed.unseen({number for number, _ in places})
        if not unseen:
            return pl.DataFrame(schema=_MISSING)
        mine = pl.any_horizontal(_below(*place) for place in places)
        closed = [_below(number, printable(name)) for number, name in self.closed]
        wanted = mine & pl.col("item_key").is_in(unseen) & ~pl.any_horizontal(pl.lit(False), *closed)
        tables = (self.dataset.scan(table).filter(wanted).select(*_MISSING) for table in ("images", "failures"))
        found = pl.concat(tables).unique(["root", "file_name"]).sort("root", "file_name").collect()
        passed_over = [any(map(is_skipped, name.split("/"))) for name in found["file_name"]]
        return found.filter(~pl.Series(passed_over, dtype=pl.Boolean))

    def _listed_whole(self) -> set[tuple[int, str]]:
        """Return where in the known roots everything was listed, as their numbers and a folder in them, '' for all."""
        places = set()
        for named in self.whole:
            number, inner = self.roots.around(named)
            within = {root.number for at, (root, _) in self.roots.places.items() if at[0] == named} - {number}
            for one, folder in ((number, printable(inner)), *((each, "") for each in within)):
                if one >= 0:
                    root = self.roots.known[one]
                    places |= {(each.number, folder) for each in (root, *self.roots.former(root))}
        return places

    def _candidates(self, files: Iterable[InputFile]) -> Iterator[list[_Candidate]]:
        """Yield what must be planned, in groups that must not be parted."""
        for chunk in chunks(files, self.roots):
            self.reached = chunk.announced
            closed = [number for number, file in enumerate(chunk.files) if file.size == UNREADABLE]
            self.closed += [(root, chunk.file_names[number]) for number in closed for root in chunk.roots[number]]
            done = -1
            while work := self._unsettled(chunk, done):
                changes = self.committed.changes
                copied = self.committed.copied(one.before for one in work if one.before and not one.is_same)
                kinds = self._kinds([chunk.files[one.owner] for one in work])
                for one, kind in zip(work, kinds, strict=True):
                    yield from self._groups(chunk, one, copied, kind)
                    done = one.owner
                    if self.committed.changes != changes:
                        break  # since a commit all may be otherwise
                else:
                    break
        self.is_exhausted = True

    def _unsettled(self, chunk: Chunk, done: int) -> list[_Unsettled]:
        """Return the files of a chunk, behind the one of number `done`, with which something is to be done."""
        at, same = self.committed.look(*chunk.hashes)
        chosen = np.searchsorted(chunk.owners, np.arange(len(chunk.files)))  # in each file's own root ...
        known, first = np.unique(chunk.owners[same], return_index=True)
        chosen[known] = np.flatnonzero(same)[first]  # ... or the first where it is committed as it is
        settled = same[chosen]
        settled[settled] = self.committed.is_settled(at[chosen[settled]], self.retry_failed)
        left = np.flatnonzero(~settled)
        left = left[left > done]
        numbers = chosen[left]
        told = zip(left.tolist(), numbers.tolist(), at[numbers].tolist(), same[numbers].tolist(), strict=True)
        return [
            _Unsettled(owner, number, *self.committed.told(place), is_same) for owner, number, place, is_same in told
        ]

    def _kinds(self, files: list[InputFile]) -> Iterator[Kind]:
        """Yield how to tell each file's kind; a store is asked for the next ones while the first are planned."""
        if not any(is_remote(file.uri) for file in files):
            yield from (partial(self._kind_of, file.uri, file.size) for file in files)
            return
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            asked: deque[Future[str | None]] = deque()
            try:
                for file in files:
                    asked.append(pool.submit(self._kind_of, file.uri, file.size))
                    if len(asked) == 2 * _ASKED_AT_ONCE:
                        yield asked.popleft().result
                yield from (answer.result for answer in asked)
            finally:
                pool.shutdown(cancel_futures=True)

    def _kind_of(self, uri: str, size: int) -> str | None:
        """Return a video's kind, None for a picture; raise `Stopped`."""
        return video_kind(uri, self.configuration["max_pixels"]) if size > 0 else None

    def _groups(
        self, chunk: Chunk, one: _Unsettled, copied: Mapping[str, list[str]], kind: Kind
    ) -> Iterator[list[_Candidate]]:
        """Yield the groups of one file."""
        file, name, before = chunk.files[one.owner], chunk.file_names[one.owner], one.before
        key, root = chunk.keys[one.number], chunk.tried[one.number]
        attempts = one.attempts if one.is_same else 0
        goes_on = one.is_same and key in self.committed.unfinished
        ref = ImageRef(0, key, root, file.uri, name, file.size, file.mtime_ns, attempts, etag=file.etag)
        copies = list(self._copies_of(before, copied.get(before, []))) if before and not one.is_same else []
        for candidate in self._parts(ref, None if goes_on else before, kind):
            yield [candidate, *copies]
            copies = []

    def _parts(self, ref: ImageRef, supersedes: str | None, kind: Kind) -> Iterator[_Candidate]:
        """Yield the file as it is planned: a picture whole, a video clip by clip, as far as it can be read."""
        try:
            found = kind()
            if found is None:
                yield _Candidate(ref, supersedes, "", None)
            else:
                yield from self._clips(ref, supersedes, found)
        except Stopped:
            return

    def _clips(self, ref: ImageRef, supersedes: str | None, kind: str) -> Iterator[_Candidate]:
        sha256 = self._sha256(ref)
        if self.find_copies and sha256 and self._is_copy(sha256, ref):
            yield _Candidate(ref, supersedes, sha256, None)
            return
        index = index_of(ref.uri, kind, self.configuration["max_pixels"])
        after = self.committed.unfinished.get(ref.key) if supersedes is None else None
        plan = self.plans
        most = min(CLIP_FRAMES, self.epoch_items)
        planned = list(clips(index, self.configuration["frames"], most=most, after=after))
        if after is not None and index.listed and not planned[0].pts and not index.error:
            return  # another choice of frames left nothing behind what is committed
        self.more_items += sum(len(clip.pts) for clip in planned) - 1
        for clip in planned:
            if self.plans != plan and ref.key not in self.committed.unfinished:
                return  # it broke in an earlier epoch
            plan = self.plans
            if after is None:
                self.planned_videos.add(sha256)
            yield _Candidate(ref, supersedes, sha256, clip)
            after, supersedes = clip.pts[-1] if clip.pts else 0, None

    def _is_copy(self, sha256: str, ref: ImageRef) -> bool:
        """Tell whether another video of the same bytes stands, or is planned just now."""
        if sha256 in self.planned_videos:
            return True
        stands = self.committed.contents_of([ref.size])[1].get(sha256)
        if stands is None or stands.image_id == image_id(sha256, ref.root, ref.file_name):
            return False
        return stands.image_id not in self.committed.pictures_of(self.taken_back)

    def _items(self, chosen: list[_Candidate], refs: list[ImageRef], gone: set[str]) -> Iterator[PlannedItem]:
        """Yield one item for each distinct content; its exact copies ride along, the first in listing order stands.

        `gone` are the pictures that this plan takes back: they stand for nothing any more. The clips of a video are
        items of their own; copies ride along with the first.
        """
        sizes, standing = self.committed.contents_of(ref.size for ref in refs)
        contents = self._contents([ref for one, ref in zip(chosen, refs, strict=True) if not one.sha256], sizes)
        copies: dict[str, list[ImageRef]] = {}
        heads: list[tuple[_Candidate, ImageRef, str, Standing | None]] = []
        for one, ref in zip(chosen, refs, strict=True):
            sha256 = one.sha256 or contents.get(ref.number, "")
            stands = standing.get(sha256)
            if one.clip is not None or stands is None or stands.image_id in gone:
                stands = None
            if stands is None and one.clip is None and sha256 in copies:
                copies[sha256].append(ref)
                continue
            if stands is None and sha256 and self.find_copies:
                copies.setdefault(sha256, [])
            heads.append((one, ref, sha256, stands))
        for one, ref, sha256, stands in heads:
            mine = tuple(copies.pop(sha256, ())) if stands is None else ()
            yield PlannedItem(ref, sha256, mine, stands, one.clip)

    def _contents(self, refs: list[ImageRef], standing: set[int]) -> dict[int, str]:
        """Return the sha256 of those files that may be copies: equal bytes have equal sizes, so few must be read.

        `standing` are the sizes of pictures that stand.
        """
        if not self.find_copies:
            return {}
        sizes = Counter(ref.size for ref in refs)
        alike = [ref for ref in refs if sizes[ref.size] > 1 or ref.size in standing]
        with ThreadPoolExecutor(8) as pool:
            hashes = pool.map(self._content, alike)
            return {ref.number: found for ref, found in zip(alike, hashes, strict=True) if found}

    def _content(self, ref: ImageRef) -> str:
        return self._sha256(ref) if 0 < ref.size <= self.configuration["max_bytes"] else ""

    @staticmethod
    def _sha256(ref: ImageRef) -> str:
        try:
            return sha256_of(ref.uri)
        except ItemError:
            return ""  # decode will say why

    def _copies_of(self, changed: str, stood: list[str]) -> Iterator[_Candidate]:
        """Yield the committed copies of a file that has changed, as they are planned: one of them must stand now.

        `stood` are the pictures of the file that have copies. A copy that cannot be found from here is taken up when it
        is listed again (see `committed.ORPHAN`).
        """
        self.taken_back.append(changed)
        if not stood:
            return
        copies = self.dataset.scan("images").filter(pl.col("duplicate_of").is_in(stood)).collect()
        for row in copies.iter_rows(named=True):
            size, mtime_ns, etag = file_state(row["source_uri"])
            key, root, name = row["item_key"], row["root"], row["file_name"]
            if item_key(root, name, size, version(mtime_ns, etag)) == key:
                ref = ImageRef(0, key, root, row["source_uri"], name, size, mtime_ns, 0, etag=etag)
                yield from self._parts(ref, key, partial(self._kind_of, ref.uri, ref.size))


_ASKED_AT_ONCE = 16
"""Files of which the state is asked at the same time: an object store takes its time to answer."""

_SAVE_EPOCHS = 100
"""In a long run what is known is kept after so many commits, so that a kill costs little."""

_MISSING = {"root": pl.Int32(), "file_name": pl.String(), "source_uri": pl.String()}


def _below(root: int, folder: str) -> pl.Expr:
    """Return whether a file lies in this folder of this root; '' or . for the whole root."""
    inside = (
        pl.lit(True) if folder in ("", ".") else pl.col("file_name").str.starts_with(folder.removesuffix("/.") + "/")
    )
    return (pl.col("root") == root) & inside


def file_state(uri: str) -> tuple[int, int | None, str | None]:
    """Return a file's size in bytes, its time in ns and its etag, as a listing gives them."""
    state = state_of(uri)
    return (UNREADABLE, None, None) if state is None else (state.size, state.mtime_ns, state.etag)


def still_holds(plan: Plan) -> bool:
    """Tell whether every file of an unfinished plan is as it was planned, seen from here.

    If not (a file changed, or another working folder gives relative names another meaning), what the plan covers is
    planned anew: nothing of it was ever visible.
    """
    refs = [ref for item in plan.items for ref in item.refs()]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        states = pool.map(file_state, (ref.uri for ref in refs))
        told = ((size, version(mtime_ns, etag)) for size, mtime_ns, etag in states)
        return all((ref.size, ref.version) == state for ref, state in zip(refs, told, strict=True))


def take_up(dataset: Dataset, planner: Planner) -> Plan | None:
    """Return the plan that a killed run left uncommitted, if what it covers is as it was; it is forgotten if not.

    So is one of another job, whose rows nobody has seen.
    """
    plan = pending(dataset)
    if plan is None or not still_holds(plan):
        left = left_behind(dataset)
        if left is not None:
            left.unlink()
        return None
    planner.adopt(plan)
    return plan


def pending(dataset: Dataset) -> Plan | None:
    """Return the plan of ours that a killed run left uncommitted, or None; the plans of other jobs tell their kind."""
    left = left_behind(dataset)
    told = None if left is None else read_json(left)
    return None if told is None or "kind" in told else Plan.of(told)


def left_behind(dataset: Dataset) -> Place | None:
    """Return the file of a plan that was never committed, or None."""
    plans: list[Place] = [*(dataset.path / PLANS).glob("[0-9]*.json")]
    plans.sort(key=lambda plan: plan.name)
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    return plans[-1] if plans and int(plans[-1].stem) > last else None
