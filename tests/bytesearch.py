"""Searching files for bytes in whatever form they may have been kept: as they are, in hexadecimal, in base64.

By grep, which looks for ten thousand needles in one pass over a file.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

_SLICE_BYTES = 18
"""Enough to be nobody else's, and little enough to be found where a page or a line ends within."""


class Needles:
    """What is looked for: `name` says whose it is, and is what a find is told by."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, secret: bytes, slices: int = 1) -> None:
        """A value of 16 bytes at least; of a long one that many slices, from its beginning to its end."""
        assert len(secret) >= 16, "too short to be told from chance"
        size = min(_SLICE_BYTES, len(secret))
        for n in range(slices):
            start = (len(secret) - size) * n // max(1, slices - 1)
            for form in _forms(secret, start, size):
                self._names[form] = name

    def found(self, scratch: Path, *places: Path) -> dict[str, set[str]]:
        """Where below these files and directories each name is found; nothing for a name that is nowhere."""
        (scratch / "needles").write_bytes(b"".join(form + b"\n" for form in self._names))
        command = ["grep", "--recursive", "--null", "--only-matching", "--text", "--fixed-strings"]
        done = subprocess.run(
            [*command, "--with-filename", f"--file={scratch / 'needles'}", *map(str, places)],
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        # A file that went meanwhile is complained of (2), and may be: nothing is in it any more.
        complaints = [line for line in done.stderr.splitlines() if b"No such file" not in line]
        assert done.returncode in (0, 1, 2), done.stderr[:1000]
        assert not complaints, complaints[:10]
        finds: dict[str, set[str]] = {}
        for line in done.stdout.split(b"\n"):
            path, _, form = line.partition(b"\0")
            if path:
                finds.setdefault(self._names[form], set()).add(path.decode())
        return finds


def _forms(secret: bytes, start: int, size: int) -> Iterator[bytes]:
    piece = secret[start : start + size]
    yield piece.hex().encode()
    yield piece.hex().upper().encode()
    for shift in range(3):  # wherever in a group of three bytes it may begin
        text = base64.b64encode(bytes(shift) + piece)
        inner = text[4 if shift else 0 : len(text) // 4 * 4 - 4]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
    clean = _without_line_ends(secret, start, size)
    if clean:
        yield clean


def _without_line_ends(secret: bytes, start: int, size: int) -> bytes:
    """The piece nearest to the start in which is no byte that a list of needles cannot hold."""
    for begin in sorted(range(len(secret) - 11), key=lambda n: abs(n - start)):
        piece = secret[begin : begin + min(size, 16)]
        if len(piece) >= 12 and not {0, 10} & set(piece):
            return piece
    return b""


def names(finds: Iterable[str]) -> set[str]:
    """Of "visitor 7: salt" the kind alone, for a message that fits a screen."""
    return {find.partition(": ")[2] for find in finds}
