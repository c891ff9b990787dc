"""Label files for tests: what is written here and now, or lies in a folder."""

from pathlib import Path

from schemas.raw import Form, Source


def source_of(form: Form, folder: Path, pattern: str = "**/*") -> Source:
    """Return the files below a folder as one source, in the order of their names."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    assert files
    names = tuple(path.relative_to(folder).as_posix() for path in files)
    return Source(form, folder.name, str(folder), tuple(map(str, files)), names)


def put(folder: Path, **texts: str | bytes) -> Path:
    """Write files; in their names two underscores stand for a slash, and the last one for the dot."""
    for name, text in texts.items():
        stem, _, extension = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder
