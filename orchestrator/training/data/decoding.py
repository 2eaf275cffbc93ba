"""Image files to uint8 pixels, in as many processes as there are cores, straight into the shared array.

Processes, because Pillow holds Python's lock while it decodes: two threads were slower than one. They are started as
programs of their own (`python -c`), which works from any process: a Ray worker, a thread, a notebook.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.base.errors import NotReadyError
from orchestrator.base.processes import python
from orchestrator.training.data.reading import opened_image
from orchestrator.training.data.source import Progress

if TYPE_CHECKING:
    from PIL import Image

DECODER = 1
"""Counted up when the same file would give other pixels, so that the cache is built anew."""

_FEW = 2_000
"""Files that are decoded before the other processes would have started."""

_NAMED_AT_MOST = 10
_REPORT_EVERY = 500


def decode_files(
    paths: Sequence[str], images: np.memmap, *, resize: bool, progress: Progress, processes: int | None = None
) -> None:
    """Decodes file i into images[i] (uint8, [N, 1 or 3, height, width]); the first frame of an animation.

    Args:
        resize: scale and crop what has another size; otherwise it is an error.

    Raises:
        NotReadyError: images are damaged, empty, too large or of the wrong size; the first ten are named.
    """
    processes = processes or (1 if len(paths) <= _FEW else len(os.sched_getaffinity(0)))
    done, lock = 0, threading.Lock()

    def count(more: int) -> None:
        nonlocal done
        with lock:
            done += more
            progress(done, len(paths))

    if processes == 1:
        failed = _decode_rows(paths, range(len(paths)), images, resize, count)
    else:
        failed = _decode_in_processes(paths, images, resize, count, processes)
    if failed:
        listed = "\n".join(f"  {paths[row]}: {why}" for row, why in sorted(failed)[:_NAMED_AT_MOST])
        rest = f"\n  and {len(failed) - _NAMED_AT_MOST} more" if len(failed) > _NAMED_AT_MOST else ""
        raise NotReadyError(
            f"{len(failed)} of {len(paths)} images cannot be used; replace or remove them:\n{listed}{rest}"
        )


def first_image_size(path: str) -> tuple[int, int]:
    """(height, width) of an image as it is seen.

    Raises:
        NotReadyError: it is not an image.
    """
    from PIL import ImageOps

    try:
        with opened_image(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return image.height, image.width
    except damage() as error:
        raise NotReadyError(f"{path}: {why_not(error, path)}") from error


def pixels(image: Image.Image, channels: int) -> np.ndarray:
    """An image of any mode as uint8 [height, width, channels]: 16 bits are scaled to 8, transparency lies on white.

    Raises:
        ValueError: floating-point pixels, whose range nobody knows.
    """
    return _array(_plain(image, channels), channels)


def _array(plain: Image.Image, channels: int) -> np.ndarray:
    return np.asarray(plain).reshape(plain.height, plain.width, channels)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """An image of any mode in 8 bits of grey (one channel) or colour (three)."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("has floating-point pixels; save it with 8 or 16 bits")
    seen: Image.Image = image
    if image.mode.startswith("I"):  # PIL would clip at 255
        wide = np.asarray(image)
        seen = Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        seen = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    mode = "L" if channels == 1 else "RGB"
    return seen if seen.mode == mode else seen.convert(mode)


def seen(image: Image.Image, channels: int, *, about: tuple[int, int] | None = None) -> Image.Image:
    """An image that was just opened as a person sees it: upright, in 8 bits of grey (one channel) or colour (three).

    Args:
        about: (height, width) that it is scaled down to later; a JPEG can skip most of the work of a large photograph.
    """
    from PIL import ImageOps

    if about is not None:
        image.draft(None, (2 * about[1], 2 * about[0]))
    ImageOps.exif_transpose(image, in_place=True)
    whole = _plain(image, channels)
    whole.load()
    return whole


def fitted(image: Image.Image, height: int, width: int, channels: int) -> np.ndarray:
    """An image as uint8 [height, width, channels]: its largest part of this shape at the centre, scaled.

    Args:
        image: as `seen` gives it.
    """
    from PIL import Image

    if (image.height, image.width) == (height, width):
        return _array(image, channels)
    if image.width * height >= image.height * width:
        across, down = image.height * width / height, float(image.height)
    else:
        across, down = float(image.width), image.width * height / width
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return _array(image.resize((width, height), Image.Resampling.BILINEAR, box=box), channels)


def _decode_one(path: str, height: int, width: int, channels: int, resize: bool) -> np.ndarray:
    from PIL import ImageOps

    with opened_image(path) as image:
        if not resize:
            ImageOps.exif_transpose(image, in_place=True)
            if (image.height, image.width) != (height, width):
                raise ValueError(
                    f"is {image.height}x{image.width}, the first image {height}x{width}; "
                    "set data.image_size to bring all to one size"
                )
        whole = seen(image, channels, about=(height, width) if resize else None)
    return fitted(whole, height, width, channels)


def _decode_rows(
    paths: Sequence[str], rows: Sequence[int], images: np.ndarray, resize: bool, count: Callable[[int], None]
) -> list[tuple[int, str]]:
    """Decodes path i into images[rows[i]]; returns (row, why) of each that could not be."""
    from PIL import Image

    damages = damage()
    _, channels, height, width = images.shape
    failed: list[tuple[int, str]] = []
    since = 0
    with warnings.catch_warnings():
        # a bomb is refused by our own limit; broken metadata do not matter where the pixels are whole
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        for path, row in zip(paths, rows, strict=True):
            try:
                images[row] = _decode_one(path, height, width, channels, resize).transpose(2, 0, 1)
            except damages as error:
                failed.append((row, why_not(error, path)))
            since += 1
            if since == _REPORT_EVERY:
                count(since)
                since = 0
    count(since)
    return failed


def _decode_in_processes(
    paths: Sequence[str], images: np.memmap, resize: bool, count: Callable[[int], None], processes: int
) -> list[tuple[int, str]]:
    shared = {"file": str(images.filename), "offset": images.offset, "shape": list(images.shape), "resize": resize}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = python("-c", f"from {__name__} import _main; _main()")
    running: list[subprocess.Popen[str]] = []

    def follow(part: int) -> list[tuple[int, str]]:
        process = running[part]
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin:
            rows = range(part, len(paths), processes)
            json.dump({**shared, "rows": list(rows), "paths": [paths[row] for row in rows]}, process.stdin)
        failed: list[tuple[int, str]] = []
        for line in process.stdout:
            told = json.loads(line)
            count(told.get("done", 0))
            failed.extend((row, why) for row, why in told.get("failed", ()))
        if process.wait() != 0:
            raise NotReadyError(
                f"a process that decoded images ended with status {process.returncode}; was it killed for its memory?"
            )
        return failed

    try:
        for _ in range(processes):
            running.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
        with ThreadPoolExecutor(processes) as threads:
            try:
                return [found for failed in threads.map(follow, range(processes)) for found in failed]
            except BaseException:  # interrupted, or one failed: the threads end when their processes do
                for process in running:
                    process.kill()
                raise
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _main() -> None:
    """A decoding process: reads its part of the work from standard input, tells how far it is on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the parent says it, and ends this one
    job: dict[str, Any] = json.load(sys.stdin)

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), flush=True)

    images = np.memmap(job["file"], np.uint8, "r+", job["offset"], tuple(job["shape"]))
    failed = _decode_rows(job["paths"], job["rows"], images, job["resize"], lambda more: tell({"done": more}))
    tell({"failed": failed})


def damage() -> tuple[type[Exception], ...]:
    """What Pillow raises on damaged files, by format; its bomb error is a plain Exception of its own."""
    from PIL import Image

    return (
        OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, OverflowError, NotImplementedError,
        struct.error, zlib.error, Image.DecompressionBombError,
    )  # fmt: skip


def why_not(error: Exception, path: str) -> str:
    """What is wrong with an image file, where decoding it raised one of `damage`."""
    text = str(error) or type(error).__name__
    if not os.path.exists(path):
        return "has gone"
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "is empty (0 bytes)"
    if "cannot identify image file" in text:
        return "is not an image of a known format, or its beginning is damaged"
    return text
