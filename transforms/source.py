"""From what the user named to the files it stands for: folders, globs, single files and lists of them.

Uris of buckets (`s3://raw/2026/`) are taken as the names of folders and files are.

The order is stable: inputs as given, and inside one input the code points of `file_name`, whatever the operating
system or locale says. Nothing is opened here; a file that cannot be read is listed all the same and fails where it is
read, so that it is counted.
"""

# Names are kept exactly as the user wrote them, and a million pathlib objects are slow.
# ruff: noqa: PTH100, PTH109, PTH112, PTH113, PTH117, PTH118, PTH119, PTH120, PTH123

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeVar

from schemas.errors import ItemError, UsageError
from schemas.records import version
from transforms.buckets.faults import Away
from transforms.buckets.listing import is_odd, objects_below, require_listing
from transforms.buckets.names import SCHEMES, folder_of, is_remote, join, real, split, why_not_a_key
from transforms.storage import State, opened, printable, state_of

UNREADABLE = -1
"""The `size` of an input that is there in name only: a broken link, a pipe, a closed folder, a wrong line of a list."""

_TEXT = frozenset(
    f".{name}"
    for name in (
        *("txt", "md", "rst", "log", "html", "htm", "py", "ipynb"),
        *("csv", "tsv", "json", "jsonl", "xml", "toml", "yaml", "yml", "ini", "cfg"),
    )
)
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})  # hidden files of other systems
_MAGIC = re.compile(r"[*?[]")
_ASKED_AT_ONCE = 32  # objects that a list names
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class InputFile(NamedTuple):  # made by the million: a dataclass takes three times as long
    """One file to label, known by name only.

    `root_index` numbers the distinct input roots from 0 in the order of their first naming; `root` is that first name.
    `uri` opens the file and is written as the user named it; `file_name` is relative to the root, with forward
    slashes. `size` is in bytes, or UNREADABLE, and `mtime_ns` is then None: reading `uri` says why. `etag` is what an
    object store calls this content of the object; None for a file.
    """

    root_index: int
    root: str
    uri: str
    file_name: str
    size: int
    mtime_ns: int | None
    etag: str | None = None

    @property
    def version(self) -> str:
        """What changes whenever the content does: the etag, or the time."""
        return version(self.mtime_ns, self.etag)


@dataclass
class Listing:
    """What the inputs hold. `files` can be read once; all else is complete when it is exhausted.

    `whole` are the roots that were walked to their end: what is not listed below them is not there, or is skipped, or
    lies below another root or in a folder that could not be opened (itself listed, with size UNREADABLE). `skipped`
    counts the hidden files, hidden folders (each as one) and plain texts of folders and globs.
    """

    files: Iterator[InputFile]
    roots: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    skipped: int = 0


def list_inputs(inputs: Sequence[str], exclude: str | None) -> Listing:
    """Return the files that `inputs` stand for, each file once.

    An input is a folder (taken whole), a file, a glob (`**` goes through folders; a folder that it matches is taken
    whole; hidden names only where the pattern writes the dot), or `@list.txt` with one such input a line; each of them
    may be in a bucket. Links are followed; a folder reached twice is listed under its first name. In folders and globs,
    hidden names, plain texts and the empty objects that stand for folders of a bucket are skipped; what is named
    directly never is. `exclude` is the output folder, which is never read.

    Raises UsageError at once for an input that is missing, matches nothing, lies in the output folder or on a kind of
    storage that this version cannot read; `Away` for a store that does not answer, also while `files` is read. A wrong
    line of a list is a file with size UNREADABLE.
    """
    if not inputs:
        raise UsageError("No input found: name a folder, a file, a glob or @list.txt with --input.")
    listing = Listing(iter(()))
    lister = _Lister(listing, real_name(exclude) if exclude is not None else None)
    parts = [lister.open_list(name[1:]) if name.startswith("@") else lister.open_input(name) for name in inputs]
    listing.files = chain.from_iterable(parts)
    return listing


def real_name(name: str) -> str:
    """Return the one name of a file or folder, however it is reached; of one in a bucket its uri."""
    return real(name) if is_remote(name) else os.path.realpath(name)


def is_folder(name: str) -> bool:
    """Say whether there is such a folder; in a bucket: whether it may be listed and holds objects. Raises `Away`."""
    if not is_remote(name):
        return os.path.isdir(name)
    try:
        return next(objects_below(real(name)), None) is not None
    except OSError:
        return False


def is_skipped(name: str) -> bool:
    """Say whether a file of this base name is passed over in folders and globs: hidden, or plain text."""
    return _is_hidden(name) or is_text(name)


def is_text(name: str) -> bool:
    """Say whether a base name has the extension of a plain text: annotations, notes, code."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in _TEXT


def _is_hidden(name: str) -> bool:
    # The parts "." and ".." of a key hide nothing.
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in _LITTER


_States = frozenset[int] | None
"""Where a glob stands on the way into a folder: numbers of its segments; None: the folder is taken whole."""

_NOWHERE: frozenset[int] = frozenset()


class _Place(Protocol):
    """A folder on the way: its real name, and where a glob stands in it."""

    @property
    def real(self) -> str: ...

    @property
    def states(self) -> _States: ...

    def child(self, name: str, states: _States) -> Self: ...


_AnyPlace = TypeVar("_AnyPlace", bound=_Place)


class _Lister:
    """The state that the inputs of one listing share: roots by place, and what was listed already.

    Every part is a generator that starts when the one before it is exhausted, so that roots are numbered and doubles
    are left out in the order of the inputs.
    """

    def __init__(self, listing: Listing, exclude: str | None) -> None:
        self._listing = listing
        self._exclude = exclude  # real path
        self._root_numbers: dict[str, int] = {}
        self._whole: set[str] = set()  # real paths of the folders that were taken whole; in buckets the outermost
        self._single: set[bytes] = set()  # digests of the files listed by name or by glob, about 100 bytes each
        self._real_folder = lru_cache(maxsize=4096)(real_name)
        self._states: dict[str, State | None] = {}  # of the objects that the next lines of a list name

    def open_input(self, name: str) -> Iterator[InputFile]:
        """Return the files of one input from the command line; check at once that there is something to find."""
        _refuse_scheme(name)
        if is_remote(name):
            return self._open_remote(name)
        if not name or "\0" in name:
            raise UsageError(f"No input found: {printable(name)!r} names no file or folder.")
        self._refuse_output(name)
        if os.path.isdir(name):
            _check_folder(name)
            return self._folder(name)
        if os.path.lexists(name):
            return self._named_file(name, os.path.dirname(name) or ".", os.path.basename(name))
        if not _MAGIC.search(name):
            raise UsageError(f"No input found: {printable(name)} is not there (looked in {printable(os.getcwd())}).")
        return self._open_glob(name, os.path.abspath(_split_glob(name)[0]))

    def _open_glob(self, name: str, where: str) -> Iterator[InputFile]:
        # Looked for with a state of its own: the glob's turn comes after the inputs before it.
        trial = Listing(iter(()))
        if next(_Lister(trial, self._exclude)._glob(name), None) is None and trial.skipped == 0:
            raise UsageError(f"No input found: nothing matches {printable(name)} (looked in {printable(where)}).")
        return self._glob(name)

    def _open_remote(self, name: str) -> Iterator[InputFile]:
        bucket, key = split(name)
        self._refuse_output(name)
        refused = ""
        try:
            require_listing(real(name) if not _MAGIC.search(key) else str(bucket))
            if next(objects_below(real(name)), None) is not None:
                return self._folder(name)
        except OSError as error:  # to read an object by its name takes another right
            refused = f": {error.strerror}"
        if key and not key.endswith("/") and state_of(name):
            return self._named_file(name, folder_of(name), name.rpartition("/")[2])
        if not refused and _MAGIC.search(key):
            return self._open_glob(name, _split_glob(name)[0])
        raise UsageError(f"No input found: {printable(name)}{refused or ': nothing lies there'}.")

    def _refuse_output(self, name: str) -> None:
        if self._is_output(real_name(name)):
            raise UsageError(
                f"The input {printable(name)} lies in the output folder, which is never read as input. "
                "Choose another --output."
            )

    def open_list(self, name: str) -> Iterator[InputFile]:
        """Return the files of one `@list`; check at once that the list can be read and what its lines ask for."""
        buckets: set[str] = set()
        try:
            # A list is read twice to stay out of memory; a pipe (`@/dev/stdin`) gives its lines only once.
            again = is_remote(name) or os.path.isfile(name)
            lines: Iterable[str] = _Lines(name) if again else list(_Lines(name))
            empty = True
            for line in lines:
                if "\0" in line:
                    raise UsageError(f"The list {printable(name)} is not a text with one input a line.")
                _refuse_scheme(line)
                if is_remote(line.strip()):
                    buckets.add(str(split(line.strip())[0]))
                empty = False
        except (ItemError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"No input found: the list {printable(name)} cannot be read: {reason}.") from error
        except Away as error:
            if error.may_pass:
                raise
            raise UsageError(f"No input found: the list {printable(name)} cannot be read: {error}.") from None
        if empty:
            raise UsageError(f"No input found: the list {printable(name)} has no lines.")
        for bucket in sorted(buckets):
            _check_bucket(bucket)
        return self._lines(lines, folder_of(name) if is_remote(name) else os.path.dirname(name) or ".")

    def _lines(self, lines: Iterable[str], home: str) -> Iterator[InputFile]:
        """Yield the files of a list; the objects that it names are asked for beforehand, some at once."""
        rest = iter(lines)
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            while some := list(islice(rest, 8 * _ASKED_AT_ONCE)):
                first = (_beside(_bases(line, home)[0], line) for line in some)
                uris = [uri for uri in first if is_remote(uri)]
                self._states = dict(zip(uris, pool.map(state_of, uris), strict=True))
                for line in some:
                    yield from self._line(line, home)

    def _line(self, line: str, home: str) -> Iterator[InputFile]:
        """Return the files of one line: beside the command first, then beside the list; as written, then trimmed."""
        tried = [(base, text) for text in dict.fromkeys((line, line.strip())) for base in _bases(text, home)]
        for base, text in tried:
            path = _beside(base, text)
            has_object = is_remote(path) and self._state(path) is not None
            is_whole = not has_object and is_folder(path)
            if not has_object and not is_whole and (is_remote(path) or not os.path.lexists(path)):
                continue
            if self._is_output(real_name(path)):
                self._listing.skipped += 1
                return iter(())
            return self._folder(path) if is_whole else self._listed_file(base, text)
        for base, text in tried:
            if _MAGIC.search(text) and (first := next(files := self._glob(_beside(base, text)), None)):
                return chain((first,), files)
        return self._listed_file(*tried[0])

    def _listed_file(self, base: str, text: str) -> Iterator[InputFile]:
        if is_remote(text):
            return self._named_file(text, folder_of(text), text.rpartition("/")[2] or text)
        if os.path.isabs(text):
            return self._named_file(text, os.path.dirname(text), os.path.basename(text) or text)
        if ".." in Path(text).parts:
            # Not simplified: behind a link to a folder, "link/.." is not where it is written.
            path = _beside(base, text)
            return self._named_file(path, os.path.dirname(path), os.path.basename(path))
        return self._named_file(_beside(base, text), base, os.path.normpath(text))

    def _named_file(self, uri: str, root: str, file_name: str) -> Iterator[InputFile]:
        folder, name = os.path.split(uri)
        if "\0" in uri or self._is_new(self._real_folder(folder or "."), name):
            yield self._file(self._root(root), uri, file_name)

    def _folder(self, name: str) -> Iterator[InputFile]:
        number = self._root(name)
        yield from self._walk(number, name, None)
        if (root := self._listing.roots[number]) not in self._listing.whole:
            self._listing.whole.append(root)

    def _glob(self, name: str) -> Iterator[InputFile]:
        root, segments = _split_glob(name)
        if is_remote(root) or os.path.isdir(root):
            yield from self._walk(self._root(root), root, _Pattern(segments))

    def _walk(self, number: int, top: str, pattern: "_Pattern | None") -> Iterator[InputFile]:
        """Yield the files below the folder `top` in the order of their names; `pattern` None takes all.

        A stack instead of recursion: folders may be nested deeper than Python's frames. In memory are the names of one
        folder for each level.
        """
        if is_remote(top):
            yield from self._walk_bucket(number, top, pattern)
            return
        entered: set[tuple[str, _States]] = set()
        stack: list[_Level] = []
        first = _Level(top, "", os.path.realpath(top), pattern.start if pattern else None)
        child = first if self._may_enter(first, entered) else None
        while child or stack:
            if child is not None:
                if child.open():
                    stack.append(child)
                else:  # a closed folder may hold pictures: it is an item that fails
                    root = self._listing.roots[number]
                    yield InputFile(number, root, child.folder, child.prefix[:-1] or ".", UNREADABLE, None)
                child = None
                continue
            level = stack[-1]
            name = next(level.names, None)
            if name is None:
                stack.pop()
            elif name.endswith("/"):
                child = self._child(level, name[:-1], pattern, entered)
            elif self._wants(level, name, pattern):
                yield self._file(number, level.uri_of(name), level.prefix + name)

    def _walk_bucket(self, number: int, top: str, pattern: "_Pattern | None") -> Iterator[InputFile]:
        """Yield as `_walk` does. A store tells all names below the folder in order, page by page."""
        first = _Prefix(real(top), pattern.start if pattern else None)
        if first.states is None and not self._take_whole(first.real):
            return
        trail: list[_Prefix | None] = []  # the same, None where one is not wanted
        begins, prefix = len(split(join(first.real, "."))[1]) - 1, join(top, ".")[:-1]
        root = self._listing.roots[number]
        last: list[str] = []  # the folders of the last name
        last_folder, is_plain = "", True
        level: _Prefix | None = first
        try:
            for entry in objects_below(first.real):
                file_name = entry.key[begins:]
                folder, slash, name = file_name.rpartition("/")
                if folder != last_folder or bool(slash) != bool(last):
                    folders = folder.split("/") if slash else []
                    same, last, last_folder = _common(folders, last), folders, folder
                    del trail[same:]
                    for each in folders[same:]:
                        above = trail[-1] if trail else first
                        trail.append(self._prefix(above, each, pattern) if above else None)
                    level = trail[-1] if trail else first
                    is_plain = not (slash and why_not_a_key(f"{folder}/{name}"))
                if level is None or not self._wants(level, name, pattern):
                    continue
                uri = prefix + file_name
                if not (is_plain and name.isprintable() and name.strip(".")) and is_odd(entry):
                    yield InputFile(number, root, uri, file_name, UNREADABLE, None)
                else:
                    yield InputFile(number, root, uri, file_name, entry.size, entry.mtime_ns, entry.etag)
        except OSError as error:
            raise Away(f"cannot list {printable(top)}: {error.strerror}") from None

    def _prefix(self, above: "_Prefix", name: str, pattern: "_Pattern | None") -> "_Prefix | None":
        """Return the folder `name` of a bucket, or None where it is hidden, not matched, done, or the output."""
        child = self._entered(above, name, pattern)
        if child is None or child.states is not None:
            return child
        is_new = child.real not in self._whole if above.states is None else self._take_whole(child.real)
        return child if is_new else None

    def _take_whole(self, uri: str) -> bool:
        """Remember that all below this folder of a bucket is listed, if that is new."""
        if self._is_whole(uri):
            return False
        self._whole.add(uri)
        return True

    def _is_whole(self, folder: str) -> bool:
        """Say whether all of this folder, by its real name, was listed before."""
        while folder not in self._whole:
            above = folder_of(folder) if self._whole and is_remote(folder) else folder
            if above == folder or _is_hidden(folder.rpartition("/")[2]):
                return False
            folder = above
        return True

    def _child(
        self, level: "_Level", name: str, pattern: "_Pattern | None", entered: set[tuple[str, "_States"]]
    ) -> "_Level | None":
        """Return the folder `name` to be walked, or None where it is hidden, not matched, done, or the output."""
        child = self._entered(level, name, pattern)
        return child if child is not None and self._may_enter(child, entered) else None

    def _entered(self, level: _AnyPlace, name: str, pattern: "_Pattern | None") -> _AnyPlace | None:
        """Return the folder `name`, or None where it is hidden, not matched, or the output."""
        states = self._step(level, name, pattern, _is_hidden(name))
        if states == _NOWHERE:
            return None
        if pattern is not None and pattern.ends(states):
            states = None  # matched by the whole pattern, so taken whole
        child = level.child(name, states)
        return None if self._is_output(child.real) else child

    def _wants(self, level: _Place, name: str, pattern: "_Pattern | None") -> bool:
        """Say whether the file `name` is listed here and now; count it if it is skipped."""
        states = self._step(level, name, pattern, _is_hidden(name))
        if states == _NOWHERE or (states is not None and pattern is not None and not pattern.ends(states)):
            return False
        if is_text(name):
            self._listing.skipped += 1
            return False
        if states is None:
            return not self._single or _digest(level.real, name) not in self._single
        return self._is_new(level.real, name)

    def _step(self, level: _Place, name: str, pattern: "_Pattern | None", hidden: bool) -> "_States":
        """Return the states behind `name`; count it as skipped if only its being hidden keeps it out."""
        if pattern is None or level.states is None:
            self._listing.skipped += hidden
            return _NOWHERE if hidden else None
        states = pattern.step(level.states, name, hidden)
        if hidden and not states and pattern.step(level.states, name, False):
            self._listing.skipped += 1
        return states

    def _may_enter(self, level: "_Level", entered: set[tuple[str, "_States"]]) -> bool:
        """Say whether this folder is new to the walk, and remember it: this ends loops of links."""
        if level.states is None:
            if level.real in self._whole:
                return False
            self._whole.add(level.real)
            return True
        key = (level.real, level.states)
        if key in entered:
            return False
        entered.add(key)
        return True

    def _is_new(self, real_folder: str, name: str) -> bool:
        """Say whether a file that was named or matched is listed for the first time, and remember it."""
        if self._is_whole(real_folder) and not is_skipped(name):
            return False
        digest = _digest(real_folder, name)
        if digest in self._single:
            return False
        self._single.add(digest)
        return True

    def _is_output(self, real: str) -> bool:
        return self._exclude is not None and (real == self._exclude or real.startswith(self._exclude + "/"))

    def _root(self, name: str) -> int:
        place = real(name) if is_remote(name) else os.path.abspath(name)
        if place not in self._root_numbers:
            self._root_numbers[place] = len(self._listing.roots)
            self._listing.roots.append(name)
        return self._root_numbers[place]

    def _file(self, number: int, uri: str, file_name: str) -> InputFile:
        root, state = self._listing.roots[number], self._state(uri)
        if state is None:  # a broken link, no permission, a pipe, a name with a NUL
            return InputFile(number, root, uri, file_name, UNREADABLE, None)
        return InputFile(number, root, uri, file_name, state.size, state.mtime_ns, state.etag)

    def _state(self, uri: str) -> State | None:
        return self._states[uri] if uri in self._states else state_of(uri)


class _Level:
    """One folder on the way from the root to the current file."""

    def __init__(self, folder: str, prefix: str, real: str, states: _States) -> None:
        self.folder = folder  # as it is opened
        self.prefix = prefix  # file_name of its files up to the base name
        self.real = real
        self.states = states
        self.names: Iterator[str] = iter(())
        self._links: set[str] = set()

    def open(self) -> bool:
        """Read the names in file_name order, folders with a slash at the end; say whether that was possible.

        With the slash, the order of the names of one folder is the order of all the file_names below it.
        """
        names = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        names.append(entry.name + "/")
                        if entry.is_symlink():
                            self._links.add(entry.name)
                    else:
                        names.append(entry.name)
        except OSError:
            return False
        names.sort()
        self.names = iter(names)
        return True

    def uri_of(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def child(self, name: str, states: _States) -> "_Level":
        folder = self.uri_of(name)
        real = os.path.realpath(folder) if name in self._links else os.path.join(self.real, name)
        return _Level(folder, f"{self.prefix}{name}/", real, states)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """One folder of a bucket on the way to the current object."""

    real: str
    states: _States

    def child(self, name: str, states: _States) -> "_Prefix":
        return _Prefix(join(self.real, name), states)


class _Pattern:
    """A glob below its root, matched segment by segment on the way down, so that only folders it can match are read."""

    def __init__(self, segments: list[str]) -> None:
        if segments[-1] == "**":
            segments = [*segments, "*"]
        self._matchers = [None if text == "**" else re.compile(fnmatch.translate(text)) for text in segments]
        self._dotted = [text.startswith(".") for text in segments]
        self.start = self._closed({0})

    def step(self, states: frozenset[int], name: str, hidden: bool) -> frozenset[int]:
        """Return the states after `name`. A hidden name is matched only by a segment that writes its dot."""
        after = set()
        for state in states:
            if state == len(self._matchers):
                continue
            matcher = self._matchers[state]
            if matcher is None:
                if not hidden:
                    after.add(state)
            elif (self._dotted[state] or not hidden) and matcher.match(name):
                after.add(state + 1)
        return self._closed(after)

    def ends(self, states: _States) -> bool:
        """Say whether the whole pattern is matched."""
        return states is not None and len(self._matchers) in states

    def _closed(self, states: set[int]) -> frozenset[int]:
        """Add what `**` reaches by matching no folder at all."""
        for state in sorted(states):
            while state < len(self._matchers) and self._matchers[state] is None:
                state += 1
                states.add(state)
        return frozenset(states)


class _Lines:
    """The non-blank lines of a list of inputs, without line ends and byte order mark."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __iter__(self) -> Iterator[str]:
        with opened(self._name) if is_remote(self._name) else open(self._name, "rb") as file:
            for number, raw in enumerate(file):
                line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw).rstrip(b"\r\n")
                if line.strip():
                    yield line.decode("utf-8", "surrogateescape")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a closed folder, or to itself: listed as a file, it fails where it is read
        return False


def _split_glob(name: str) -> tuple[str, list[str]]:
    """Return the folder before the first wildcard, and the segments from there on.

    >>> _split_glob("data/*/a.jpg")
    ('data', ['*', 'a.jpg'])
    """
    segments = name.split("/")
    first = next(i for i, segment in enumerate(segments) if _MAGIC.search(segment))
    root = "/".join(segments[:first]) or ("/" if first else ".")
    return root, [segment for segment in segments[first:] if segment not in ("", ".")]


def _common(folders: Sequence[str], last: Sequence[str]) -> int:
    """Return how many folders of the next name are those of the last one."""
    differ = (at for at, (folder, before) in enumerate(zip(folders, last, strict=False)) if folder != before)
    return next(differ, min(len(folders), len(last)))


def _bases(text: str, home: str) -> list[str]:
    if os.path.isabs(text) or is_remote(text):
        return [""]
    return ["."] if not is_remote(home) and os.path.abspath(home) == os.getcwd() else [".", home]


def _beside(base: str, text: str) -> str:
    return text if base == "." else os.path.join(base, text)


def _digest(real_folder: str, name: str) -> bytes:
    return blake2b(f"{real_folder}/{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _check_folder(name: str) -> None:
    try:
        os.scandir(name).close()
    except OSError as error:
        raise UsageError(f"No input found: the folder {printable(name)} cannot be read: {error.strerror}.") from error


def _check_bucket(uri: str) -> None:
    """Raise as `require_listing`, but where objects may be readable that cannot be listed."""
    with suppress(OSError):
        require_listing(uri)


def _refuse_scheme(name: str) -> None:
    found = _SCHEME.match(name)
    if found and not is_remote(name) and not os.path.lexists(name):
        raise UsageError(
            f"{printable(name)}: {found[1]}:// inputs are not supported by this version, only "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)} and local names. Copy the files to one of these."
        )
