"""What is new in a file of lines that another process writes, a little at a time."""

import os
from pathlib import Path

MOST_BYTES = 200_000  # read at a time: a few milliseconds of work for whoever hears the lines


class Tail:
    """Attributes:
    atEnd: whether the last call of `lines` came to the end of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.atEnd = True
        self._file = 0
        self._position = 0
        self._rest = b""

    def lines(self) -> tuple[list[str], bool]:
        """Whole lines that are new; and whether the file was written anew, so that earlier lines no longer count."""
        try:
            about = os.stat(self.path)
            file = open(self.path, "rb")  # noqa: SIM115 (closed below)
        except OSError:
            anew = self._position > 0
            self._file, self._position, self._rest, self.atEnd = 0, 0, b"", True
            return [], anew
        anew = self._position > 0 and (about.st_ino != self._file or about.st_size < self._position)
        if anew:
            self._position, self._rest = 0, b""
        self._file = about.st_ino
        with file:
            file.seek(self._position)
            new = file.read(MOST_BYTES)
        self._position += len(new)
        self.atEnd = self._position >= about.st_size
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [line.decode("utf-8", errors="replace") for line in lines], anew
