"""What lies among images and is none: it is refused by name, at once."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data import reading
from orchestrator.training.data.decoding import decode_files, first_image_size
from orchestrator.training.data.folder import EXTENSIONS, list_images
from orchestrator.training.data.reading import FORMATS, MAX_PIXELS, opened_image


def decode(path: Path) -> np.ndarray:
    images = np.memmap(path.parent / "images", np.uint8, "w+", shape=(1, 3, 4, 4))
    decode_files([str(path)], images, resize=True, progress=lambda done, total: None)
    return np.asarray(images)


def make_special(path: Path, kind: str) -> None:
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(path.parent)  # its name may have 108 characters
            listener.bind(path.name)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device", "a folder"])
def test_what_is_no_file_is_refused_without_waiting(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.png"
    make_special(path, kind)
    with pytest.raises(NotReadyError, match=rf"a\.png: is {kind}, not a file"):
        decode(path)
    with pytest.raises(NotReadyError, match=rf"a\.png: is {kind}, not a file"):
        first_image_size(str(path))


@pytest.mark.parametrize("kind", ["a FIFO", "a socket", "a device"])
def test_a_listing_names_what_is_no_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / split / "cat" / "a.png")
    make_special(tmp_path / "test" / "cat" / "b.png", kind)
    with pytest.raises(NotReadyError, match=rf"cat/b\.png is {kind}, not a file; remove it"):
        list_images(tmp_path)


def test_a_file_that_becomes_a_fifo_after_the_look_at_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    before = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(reading.os, "stat", lambda _: before)
    with pytest.raises(ValueError, match="is a FIFO, not a file"), opened_image(str(path)):
        pass


def test_a_link_to_an_image_is_followed(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (9, 8, 7)).save(tmp_path / "real.png")
    (tmp_path / "link.png").symlink_to("real.png")
    assert decode(tmp_path / "link.png")[0, :, 0, 0].tolist() == [9, 8, 7]


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
%%EndComments
(marker) (w) file closefile showpage
"""


def test_postscript_under_another_name_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert shutil.which("gs") == str(ghostscript)
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    with pytest.raises(NotReadyError, match=r"a\.png: is not an image of a known format"):
        decode(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["a.tga", "a.pcx", "a.ico", "a.sgi", "a.psd", "a.dds"])
def test_formats_that_are_not_listed_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    if name == "a.psd":
        path.write_bytes(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(12))
    else:
        Image.new("RGB", (4, 4)).save(path, format=name.removeprefix("a.").upper())
    with pytest.raises(NotReadyError, match="is not an image of a known format"):
        decode(path)


def test_the_formats_are_those_of_the_extensions() -> None:
    Image.init()
    known = {Image.registered_extensions()[extension] for extension in EXTENSIONS}
    assert known == set(FORMATS)


def claiming(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size; its pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS // 1000, 1001), (10_000, 10_000)])
def test_too_many_pixels_are_refused_before_any_is_decoded(
    width: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decodes"))
    path = claiming(tmp_path / "a.png", width, height)
    for look in (decode, lambda path: first_image_size(str(path))):
        with pytest.raises(NotReadyError, match=rf"claims {width} x {height} pixels; the limit is {MAX_PIXELS}"):
            look(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(reading.MAX_BYTES + 1)
    with pytest.raises(NotReadyError, match=r"a\.png: is 500,000,001 bytes long; the limit is 500,000,000"):
        decode(tmp_path / "a.png")


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (300, 300, 3)).astype(np.uint8)).save(path)
    used = iter(range(0, 1_000_000, 30))  # each look at the clock finds 30 s of CPU used since the last
    monkeypatch.setattr(reading.time, "thread_time", lambda: next(used))
    with pytest.raises(NotReadyError, match=r"a\.png: takes longer than 60 s to decode"):
        decode(path)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "extension"), [("RGB", "png"), ("RGBA", "png"), ("I;16", "png"), ("RGB", "jpg")])
def test_the_largest_image_takes_twenty_bytes_a_pixel_at_most(mode: str, extension: str, tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5)
    Image.new(mode, (side, side)).save(tmp_path / f"a.{extension}")
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from orchestrator.training.data.decoding import decode_files
images = np.zeros((1, 3, 4, 4), np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_files([sys.argv[1]], images, resize=True, progress=lambda *_: None)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    command = [sys.executable, "-c", code, str(tmp_path / f"a.{extension}")]
    used = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert used < 20 * MAX_PIXELS
