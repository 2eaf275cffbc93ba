from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.base.errors import NotReadyError
from orchestrator.training.data import decoding
from orchestrator.training.data.decoding import decode_files, first_image_size, pixels


def save(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)  # type: ignore[arg-type]
    return str(path)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def decode(
    tmp_path: Path,
    paths: list[str],
    size: tuple[int, int],
    channels: int = 3,
    *,
    resize: bool = False,
    processes: int = 1,
) -> np.ndarray:
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(len(paths), channels, *size))
    decode_files(paths, images, resize=resize, progress=lambda done, total: None, processes=processes)
    return np.asarray(images)


def test_pixels_arrive_unchanged_as_channels_height_width(tmp_path: Path) -> None:
    array = noise(5, 7)
    path = save(tmp_path / "a.png", Image.fromarray(array))
    assert np.array_equal(decode(tmp_path, [path], (5, 7))[0], array.transpose(2, 0, 1))
    assert first_image_size(path) == (5, 7)


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", Image.fromarray(noise(6, 6, i))) for i in range(11)]
    one = decode(tmp_path, paths, (6, 6)).copy()
    told: list[tuple[int, int]] = []
    images = np.memmap(tmp_path / "three", np.uint8, "w+", shape=(11, 3, 6, 6))
    decode_files(paths, images, resize=False, progress=lambda *at: told.append(at), processes=3)
    assert np.array_equal(images, one)
    assert told[-1] == (11, 11)


@pytest.mark.parametrize("processes", [1, 2])
def test_damaged_images_are_named_at_most_ten_of_them(processes: int, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"good{i}.png", Image.fromarray(noise(6, 6, i))) for i in range(3)]
    jpeg = tmp_path / "whole.jpg"
    Image.fromarray(noise(64, 64)).save(jpeg)
    for i in range(9):
        (tmp_path / f"zero{i}.jpg").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    bad = [*(str(tmp_path / f"zero{i}.jpg") for i in range(9)), str(tmp_path / "text.jpg"), str(tmp_path / "half.jpg")]
    with pytest.raises(NotReadyError, match="11 of 14 images") as told:
        decode(tmp_path, paths + bad, (6, 6), processes=processes)
    lines = str(told.value).splitlines()
    assert lines[0] == "11 of 14 images cannot be used; replace or remove them:"
    assert lines[1] == f"  {tmp_path}/zero0.jpg: is empty (0 bytes)"
    assert lines[10] == f"  {tmp_path}/text.jpg: is not an image of a known format, or its beginning is damaged"
    assert lines[11:] == ["  and 1 more"]
    with pytest.raises(NotReadyError, match=r"half\.jpg: .*truncated"):
        decode(tmp_path, [bad[-1]], (64, 64), processes=processes)


def test_an_image_of_another_size_is_an_error_unless_it_may_be_resized(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", Image.fromarray(noise(6, 6 + i))) for i in range(2)]
    with pytest.raises(NotReadyError, match=r"1\.png: is 6x7, the first image 6x6; set data\.image_size"):
        decode(tmp_path, paths, (6, 6))
    assert decode(tmp_path, paths, (6, 6), resize=True).shape == (2, 3, 6, 6)


@pytest.mark.parametrize(("height", "width"), [(8, 24), (24, 8), (8, 8)])
def test_resizing_is_that_of_the_shorter_side_and_a_crop_at_the_centre(height: int, width: int, tmp_path: Path) -> None:
    image = Image.fromarray(noise(height, width))
    half = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    left, top = (half.width - 4) // 2, (half.height - 4) // 2
    expected = np.asarray(half.crop((left, top, left + 4, top + 4)))
    found = decode(tmp_path, [save(tmp_path / "a.png", image)], (4, 4), resize=True)[0]
    assert np.array_equal(found.transpose(1, 2, 0), expected)


def test_a_large_jpeg_is_close_to_what_full_decoding_gives(tmp_path: Path) -> None:
    rows = np.linspace(0, 255, 512).astype(np.uint8)
    array = np.stack([np.tile(rows[:, None], (1, 512)), np.tile(rows, (512, 1)), np.full((512, 512), 90, np.uint8)], 2)
    path = save(tmp_path / "a.jpg", Image.fromarray(array), quality=95)
    full = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    found = decode(tmp_path, [path], (32, 32), resize=True)[0].transpose(1, 2, 0)
    assert np.abs(found.astype(int) - np.asarray(full).astype(int)).max() <= 4  # JPEG scales in another way


def test_a_photograph_is_seen_as_its_exif_orientation_says(tmp_path: Path) -> None:
    array = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = save(tmp_path / "a.png", Image.fromarray(array), exif=exif)
    assert first_image_size(path) == (6, 4)
    assert np.array_equal(decode(tmp_path, [path], (6, 4))[0], np.rot90(array, -1).transpose(2, 0, 1))


def test_sixteen_bits_are_scaled_to_eight() -> None:
    image = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    assert pixels(image, 1)[:, :, 0].tolist() == [[0, 1, 128, 255]]
    assert pixels(image, 3).shape == (1, 4, 3)


def test_colour_models_become_rgb() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    for mode in ("P", "CMYK", "RGBA", "YCbCr", "HSV"):
        found = pixels(red.convert(mode), 3)[0, 0].astype(int)
        assert np.abs(found - [255, 0, 0]).max() <= 2, mode  # YCbCr rounds
    assert pixels(red, 1)[0, 0].tolist() == [76]  # 0.299 * 255
    assert pixels(Image.new("1", (2, 2), 1), 3)[0, 0].tolist() == [255, 255, 255]
    assert pixels(Image.new("LA", (2, 2), (7, 255)), 3)[0, 0].tolist() == [7, 7, 7]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    assert pixels(Image.new("RGBA", (1, 1), (10, 20, 30, 0)), 3)[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.putpixel((1, 0), 1)
    path = save(tmp_path / "a.gif", palette, transparency=0)
    assert decode(tmp_path, [path], (1, 2))[0, :, 0].T.tolist() == [[255, 255, 255], [9, 8, 7]]


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(NotReadyError, match="floating-point pixels; save it with 8 or 16 bits"):
        decode(tmp_path, [path], (4, 4))


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert decode(tmp_path, [path], (4, 4))[0, :, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("width", "height"), [(11_000, 10_000), (100_000, 100_000)])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_decoded(
    width: int, height: int, tmp_path: Path
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(
        NotReadyError, match=r"bomb\.png: (claims 11000 x 10000 pixels; the limit|.*decompression bomb)"
    ):
        decode(tmp_path, [str(path)], (4, 4), resize=True)


def test_every_single_damage_ends_in_pixels_or_a_name(tmp_path: Path) -> None:
    # whatever a flipped or missing byte makes Pillow raise, it is never another exception than ours
    random = np.random.RandomState(0)
    for extension in ("jpg", "png", "gif", "bmp", "webp", "tif", "ppm"):
        whole = tmp_path / f"whole.{extension}"
        Image.fromarray(noise(16, 16)).save(whole)
        content = whole.read_bytes()
        for _ in range(60):
            damaged = bytearray(content[: random.randint(1, len(content) + 1)])
            for place in random.randint(0, len(damaged), 3):
                damaged[place] ^= 1 << random.randint(8)
            path = tmp_path / f"damaged.{extension}"
            path.write_bytes(bytes(damaged))
            try:
                decode(tmp_path, [str(path)], (16, 16), resize=True)
            except NotReadyError as error:
                assert str(path) in str(error)  # noqa: PT017  (both outcomes are right)


def test_few_files_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_decode_in_processes", None)
    path = save(tmp_path / "a.png", Image.fromarray(noise(4, 4)))
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(1, 3, 4, 4))
    decode_files([path], images, resize=False, progress=lambda done, total: None)


def test_an_interruption_ends_the_decoding_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(noise(4, 4)))
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(2_000, 3, 4, 4))
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[-1]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt("stopped by the test")

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt, match="stopped by the test"):
        decode_files([path] * 2_000, images, resize=False, progress=interrupt, processes=2)
    assert len(started) == 2
    assert all(process.returncode is not None for process in started)
