"""Opening an image that somebody else wrote: a regular file, or bytes, of a known format, of bounded size, in bounded time."""

from __future__ import annotations

import io
import os
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of the formats that are read. It knows some forty others, of which one (EPS) starts Ghostscript."""

MAX_PIXELS = 50_000_000
"""Of one image; a file of kilobytes may claim gigabytes. Decoding takes up to 20 bytes a pixel."""

MAX_BYTES = 500_000_000
"""Of one file."""

DECODING_CPU_S = 60.0
"""Time of this thread on the CPU that one file may take; a large photograph takes about a second."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@contextmanager
def opened_image(path: str) -> Iterator[Image.Image]:
    """The image in a file, whose size was checked before any pixel is decoded.

    Raises:
        ValueError: no regular file, too large, or more pixels than `MAX_PIXELS`.
        OSError: it cannot be read, or is no image of `FORMATS`.
    """
    with _bounded(io.FileIO(open_regular(path))) as image:
        yield image


@contextmanager
def opened_bytes(contents: bytes) -> Iterator[Image.Image]:
    """The image in the contents of a file, within the same bounds.

    Raises:
        ValueError: too long, or more pixels than `MAX_PIXELS`.
        OSError: it is no image of `FORMATS`.
    """
    if len(contents) > MAX_BYTES:
        raise ValueError(f"is {len(contents):,} bytes long; the limit is {MAX_BYTES:,}")
    with _bounded(io.BytesIO(contents)) as image:
        yield image


@contextmanager
def _bounded(raw: io.FileIO | io.BytesIO) -> Iterator[Image.Image]:
    with _BoundedFile(raw) as file, _opened(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"claims {image.width} x {image.height} pixels; the limit is {MAX_PIXELS}")
        yield image
        file.check_time()


def _opened(file: io.BufferedReader) -> Image.Image:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        return Image.open(file, formats=FORMATS)


def open_regular(path: str) -> int:
    """A descriptor of a regular file; never waits for another process, as the opening of a FIFO would.

    Raises:
        ValueError: it is something else.
        OSError: it cannot be opened.
    """
    check_regular(os.stat(path).st_mode)  # opening a device may do something already
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        check_regular(status.st_mode)
        if status.st_size > MAX_BYTES:
            raise ValueError(f"is {status.st_size:,} bytes long; the limit is {MAX_BYTES:,}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(mode: int) -> None:
    """Raise ValueError unless a file's mode is that of a regular one."""
    if not stat.S_ISREG(mode):
        raise ValueError(f"is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a file")


class _BoundedFile(io.BufferedReader):
    """A file of which each reading looks at the time: a decoder that is led around in circles comes by here."""

    def __init__(self, raw: io.FileIO | io.BytesIO) -> None:
        super().__init__(raw)  # type: ignore[arg-type]  # typeshed wants a RawIOBase; what can be read into a buffer will do
        self._begun = time.thread_time()

    def read(self, size: int | None = -1, /) -> bytes:
        self.check_time()
        return super().read(size)

    def check_time(self) -> None:
        if time.thread_time() - self._begun > DECODING_CPU_S:
            raise ValueError(f"takes longer than {DECODING_CPU_S:g} s to decode")
