"""An export's folder in memory."""

import io

from transforms.folders import Folder


class _File(io.BytesIO):
    def close(self) -> None:
        """Stay readable."""


class Kept(Folder):
    """A folder whose files stay in memory; `files` by name."""

    def __init__(self) -> None:
        super().__init__("")
        self.files: dict[str, _File] = {}

    def create(self, name: str) -> _File:
        """Open a new file."""
        assert name not in self.files
        file = self.files[name] = _File()
        return file

    def text(self, name: str) -> str:
        """Return a file's text."""
        return self.files[name].getvalue().decode()
