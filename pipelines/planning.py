"""Plan: which listed files are new, changed or to be tried again, cut into epochs of a fixed number of items."""

import hashlib
import json
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.dataset import Dataset, Manifest, read_json
from pipelines.roots import Root, Roots
from schemas.errors import ItemError, RunError
from schemas.layout import PLANS
from schemas.reasons import Duplicates, Outcome
from schemas.records import Clip, ImageRef, PlannedItem, Standing, image_id, item_key
from transforms.batch import planned_item
from transforms.source import UNREADABLE, InputFile
from transforms.storage import printable, sha256_of
from transforms.video_index import CLIP_FRAMES, Stopped, clips, index_of, video_kind


@dataclass(frozen=True)
class Plan:
    """Exactly what one epoch covers, and under which configuration."""

    epoch: int
    configuration: dict[str, Any]
    roots: tuple[Root, ...]
    items: tuple[PlannedItem, ...]
    supersedes: tuple[str, ...]

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

    @property
    def first_part(self) -> int:
        """The number of the epoch's first shard."""
        return 0

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
        failures = pl.scan_parquet(shards["failures"], glob=False)
        frames = pl.scan_parquet(shards["images"], glob=False).filter(pl.col("video_id").is_not_null())
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
        return Plan(
            epoch=told["epoch"],
            configuration=told["configuration"],
            roots=tuple(Root(root["number"], root["name"], tuple(root["marks"])) for root in told["roots"]),
            items=tuple(planned_item(item) for item in told["items"]),
            supersedes=tuple(told["supersedes"]),
        )


def items_of(item: PlannedItem) -> int:
    """Return how many items the planned one covers: a picture and its copies, or a clip's frames."""
    return len(item.refs()) if item.clip is None else max(1, len(item.clip.pts))


def broken_videos(failures: pl.LazyFrame) -> set[str]:
    """Return the keys of the items behind whose failure nothing more can be read."""
    ends = (pl.col("step").cast(pl.String) == "decode") & (pl.col("error") != "missing_frames")
    return set(failures.filter(ends).select("item_key").collect()["item_key"])


class Committed:
    """What the data set already holds, compactly: about 200 bytes a file, and as much for the copies' index.

    `names` maps (root, file_name) to the item's key, `failed` the keys of failed items to their attempts, `standing`
    the content of each picture to the row that stands for it, `sizes` are those pictures' file sizes in bytes.
    `orphaned` are the keys of duplicates whose picture has gone. `unfinished` maps the keys of videos of which frames
    are still to be planned to the last PTS that is committed.
    """

    def __init__(self, dataset: Dataset, keep_contents: bool) -> None:
        self.dataset = dataset
        self.keep_contents = keep_contents
        self.names: dict[bytes, bytes] = {}
        self.failed: dict[bytes, int] = {}
        self.standing: dict[bytes, Standing] = {}
        self.sizes: set[int] = set()
        self.orphaned: set[bytes] = set()
        self.unfinished: dict[str, int] = {}
        self._learn_all()

    def add(self, manifest: Manifest) -> None:
        """Take in one more commit; one that took pictures back makes us read everything again."""
        superseded = [bytes.fromhex(key) for key in manifest.told["supersedes"]]
        if all(key in self.failed for key in superseded):
            for key in superseded:
                del self.failed[key]
            self._learn(Dataset.of(self.dataset.path, [manifest]))
            self._learn_unfinished(manifest)
        else:
            for known in (self.names, self.failed, self.standing, self.sizes, self.orphaned, self.unfinished):
                known.clear()
            self._learn_all()

    def key_of(self, root: int, file_name: str) -> str | None:
        """Return the key under which a file of this name is committed, or None."""
        key = self.names.get(_name(root, file_name))
        return None if key is None else key.hex()

    def attempts(self, key: str) -> int:
        """Return how many committed epochs ended with this item failed; 0 for one that did not fail."""
        return self.failed.get(bytes.fromhex(key), 0)

    def pictures_of(self, keys: Iterable[str]) -> set[str]:
        """Return the ids of the pictures that stand under `keys`."""
        wanted = [key for key in keys if not self.attempts(key)]
        if not wanted:
            return set()
        mine = self.dataset.scan("images").filter(pl.col("item_key").is_in(wanted)).select(_STANDS)
        return set(mine.collect()["stands"])

    def _learn_all(self) -> None:
        self._learn(self.dataset)
        for manifest in self.dataset.manifests:
            self._learn_unfinished(manifest)
        images = self.dataset.scan("images").select("item_key", "duplicate_of", _STANDS)
        copies = images.filter(pl.col("duplicate_of").is_not_null())
        orphans = copies.join(images, left_on="duplicate_of", right_on="stands", how="anti").collect()
        self.orphaned.update(map(bytes.fromhex, orphans["item_key"]))

    def _learn_unfinished(self, manifest: Manifest) -> None:
        for key in manifest.told["supersedes"]:
            self.unfinished.pop(key, None)
        for key, pts in manifest.told.get("unfinished", {}).items():
            if pts is None:
                self.unfinished.pop(key, None)
            else:
                self.unfinished[key] = pts

    def _learn(self, dataset: Dataset) -> None:
        images, failures = dataset.scan("images"), dataset.scan("failures")
        columns = ["root", "file_name", "item_key"]
        for root, file_name, key, attempts in failures.select([*columns, "attempts"]).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
            self.failed[bytes.fromhex(key)] = attempts
        for root, file_name, key in images.select(columns).unique(maintain_order=True).collect().iter_rows():
            self.names[_name(root, file_name)] = bytes.fromhex(key)
        if not self.keep_contents:
            return
        standing = images.filter(pl.col("outcome") != Outcome.DUPLICATE)
        wanted = standing.select("sha256", _STANDS, "width", "height", "size_bytes")
        one = wanted.unique(["sha256", "stands"], keep="first", maintain_order=True).collect()
        for sha256, image, width, height, size in one.iter_rows():
            self.standing.setdefault(bytes.fromhex(sha256), Standing(image, width, height))
            self.sizes.add(size)


_STANDS = pl.coalesce("video_id", "image_id").alias("stands")
"""What a copy names as the one it is a duplicate of: a picture, or a whole video."""


def _name(root: int, file_name: str) -> bytes:
    return hashlib.blake2b(f"{root}\n{printable(file_name)}".encode(), digest_size=16).digest()


@dataclass(frozen=True)
class _Candidate:
    ref: ImageRef
    supersedes: str | None  # the key of the item whose rows it replaces
    sha256: str  # '' for a picture: its bytes are read only if there may be copies
    clip: Clip | None  # also null for a video that is a copy of another


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
    ) -> None:
        """`limit` is how many items are planned in all; null for no limit."""
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
        fresh = tuple(self.roots.known[self.announced :])
        self.announced = len(self.roots.known)
        gone = self.committed.pictures_of(supersedes)
        return Plan(epoch, self.configuration, fresh, tuple(self._items(chosen, refs, gone)), tuple(supersedes))

    def adopt(self, plan: Plan) -> None:
        """Take over the roots of a plan that an earlier run left unfinished; call it before `next`."""
        self.roots.learn(map(asdict, plan.roots))
        self.announced = len(self.roots.known)

    def add(self, manifest: Manifest) -> None:
        """Take in a commit."""
        self.committed.add(manifest)

    def _candidates(self, files: Iterable[InputFile]) -> Iterator[list[_Candidate]]:
        """Yield what must be planned, in groups that must not be parted."""
        for file in files:
            root, file_name = self.roots.place(file.root, file.file_name)
            for known in (root, *self.roots.former(root)):
                key = item_key(known.number, file_name, file.size, str(file.mtime_ns))
                before = self.committed.key_of(known.number, file_name)
                if before == key:
                    break
            else:
                known, before = root, self.committed.key_of(root.number, file_name)
                key = item_key(root.number, file_name, file.size, str(file.mtime_ns))
            attempts = self.committed.attempts(key)
            goes_on = before == key and key in self.committed.unfinished
            if before == key and not goes_on and not (attempts and self.retry_failed) and not self._is_orphan(key):
                continue
            ref = ImageRef(0, key, known.number, file.uri, file_name, file.size, file.mtime_ns, attempts)
            copies = list(self._copies_of(before)) if before and before != key else []
            for candidate in self._parts(ref, None if goes_on else before):
                yield [candidate, *copies]
                copies = []

    def _parts(self, ref: ImageRef, supersedes: str | None) -> Iterator[_Candidate]:
        """Yield the file as it is planned: a picture whole, a video clip by clip, as far as it can be read."""
        try:
            kind = video_kind(ref.uri, self.configuration["max_pixels"]) if ref.size > 0 else None
            if kind is None:
                yield _Candidate(ref, supersedes, "", None)
            else:
                yield from self._clips(ref, supersedes, kind)
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
        stands = self.committed.standing.get(bytes.fromhex(sha256))
        if stands is None or stands.image_id == image_id(sha256, ref.root, ref.file_name):
            return False
        return stands.image_id not in self.committed.pictures_of(self.taken_back)

    def _is_orphan(self, key: str) -> bool:
        return bytes.fromhex(key) in self.committed.orphaned

    def _items(self, chosen: list[_Candidate], refs: list[ImageRef], gone: set[str]) -> Iterator[PlannedItem]:
        """Yield one item for each distinct content; its exact copies ride along, the first in listing order stands.

        `gone` are the pictures that this plan takes back: they stand for nothing any more. The clips of a video are
        items of their own; copies ride along with the first.
        """
        contents = self._contents([ref for one, ref in zip(chosen, refs, strict=True) if not one.sha256])
        copies: dict[str, list[ImageRef]] = {}
        heads: list[tuple[_Candidate, ImageRef, str, Standing | None]] = []
        for one, ref in zip(chosen, refs, strict=True):
            sha256 = one.sha256 or contents.get(ref.number, "")
            stands = self.committed.standing.get(bytes.fromhex(sha256)) if sha256 else None
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

    def _contents(self, refs: list[ImageRef]) -> dict[int, str]:
        """Return the sha256 of those files that may be copies: equal bytes have equal sizes, so few must be read."""
        if not self.find_copies:
            return {}
        sizes = Counter(ref.size for ref in refs)
        alike = [ref for ref in refs if sizes[ref.size] > 1 or ref.size in self.committed.sizes]
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

    def _copies_of(self, changed: str) -> Iterator[_Candidate]:
        """Yield the committed copies of a file that has changed, as they are planned: one of them must stand now.

        A copy that cannot be found from here is taken up when it is listed again (see `Committed.orphaned`).
        """
        self.taken_back.append(changed)
        stood = self.committed.pictures_of([changed])
        copies = self.dataset.scan("images").filter(pl.col("duplicate_of").is_in(list(stood))).collect()
        for row in copies.iter_rows(named=True):
            size, mtime_ns = file_state(row["source_uri"])
            if item_key(row["root"], row["file_name"], size, str(mtime_ns)) == row["item_key"]:
                ref = ImageRef(0, row["item_key"], row["root"], row["source_uri"], row["file_name"], size, mtime_ns, 0)
                yield from self._parts(ref, row["item_key"])


def file_state(uri: str) -> tuple[int, int | None]:
    """Return a file's size in bytes and its time in ns, as a listing gives them."""
    try:
        state = Path(uri).stat()
    except (OSError, ValueError):
        return UNREADABLE, None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else (UNREADABLE, None)


def still_holds(plan: Plan) -> bool:
    """Tell whether every file of an unfinished plan is as it was planned, seen from here.

    If not (a file changed, or another working folder gives relative names another meaning), what the plan covers is
    planned anew: nothing of it was ever visible.
    """
    refs = (ref for item in plan.items for ref in item.refs())
    return all(file_state(ref.uri) == (ref.size, ref.mtime_ns) for ref in refs)


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


def left_behind(dataset: Dataset) -> Path | None:
    """Return the file of a plan that was never committed, or None."""
    plans = sorted((dataset.path / PLANS).glob("[0-9]*.json"))
    last = dataset.manifests[-1].epoch if dataset.manifests else 0
    return plans[-1] if plans and int(plans[-1].stem) > last else None
