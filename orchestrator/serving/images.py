"""What a person has (paths, files' bytes, PIL images, arrays) as the pixels that a network's data set would have stored."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.base.inputs import Inputs
from orchestrator.base.text import visible

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Size = tuple[int, int]
"""(height, width)"""

KINDS = (
    "predict takes image files (paths, or their bytes), PIL images, and uint8 arrays [H, W], [H, W, C] or [N, H, W, C]"
)


@dataclass(frozen=True)
class Read:
    """One image as it would be stored.

    Args:
        pixels: [C, H, W], of the data set's type.
        size: that it had, as it is seen.
    """

    pixels: np.ndarray
    size: Size


def single_images(images: Any, inputs: Inputs) -> Iterator[tuple[str, Any]]:
    """Each image of what somebody gave, with what to call it in a message; an array is [H, W, C] then.

    Raises:
        TypeError, ValueError: it holds no images, or may be read in two ways.
    """
    images = _in_bytes(images)
    if _is_one(images):
        yield from _rows(images, "the image", inputs)
    elif hasattr(images, "read"):
        raise TypeError(_of_open_file("the image", images))
    elif isinstance(images, dict) or not isinstance(images, Iterable):
        raise TypeError(f"{KINDS}, or a list of these; got {type(images).__name__}")
    else:
        for place, one in enumerate(images):
            image, where = _in_bytes(one), f"image {place}"
            if hasattr(image, "read"):
                raise TypeError(_of_open_file(where, image))
            if not _is_one(image):
                raise TypeError(f"{where} is a {type(image).__name__}; {KINDS}")
            rows = list(_rows(image, where, inputs))
            if len(rows) != 1:
                raise ValueError(
                    f"{where} is an array of {len(rows)} images; give one array, or a list of single images"
                )
            yield where, rows[0][1]


def read_image(image: Any, where: str, inputs: Inputs, *, crops: bool) -> Read:
    """An image of `single_images` as the data set would have stored it.

    Args:
        crops: whether the data set scales and crops images of other sizes itself; a large JPEG is then decoded as it does.

    Raises:
        TypeError, ValueError: it is no image, or its numbers are no pixels; the message names it.
    """
    if inputs["dtype"] == "float32":
        return _float_image(image, where, inputs)
    if _is_array(image):
        return _array_image(image, where, inputs)
    return _picture(image, where, inputs, crops)


def _in_bytes(image: Any) -> Any:
    """The bytes, where somebody has those of a file in another kind of object; else what was given."""
    if isinstance(image, io.BytesIO):
        return image.getvalue()
    return bytes(image) if isinstance(image, bytearray | memoryview) else image


def _of_open_file(where: str, image: Any) -> str:
    return f"{where} is an open file ({type(image).__name__}); give its path, or file.read()"


def _is_one(images: Any) -> bool:
    return isinstance(images, str | bytes | os.PathLike) or _is_picture(images) or _is_array(images)


def _is_picture(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _is_array(image: Any) -> bool:
    import numpy as np

    return isinstance(image, np.ndarray) or _is_tensor(image)


def _is_tensor(image: Any) -> bool:
    from torch import Tensor

    return isinstance(image, Tensor)


def _rows(image: Any, where: str, inputs: Inputs) -> Iterator[tuple[str, Any]]:
    """The images in a single thing: one, or the rows of an array."""
    if not _is_array(image):
        yield where, image
        return
    array = image.detach().cpu().numpy() if _is_tensor(image) else image
    array = _channels_last(array, where, inputs)
    if array.ndim == 3:
        yield where, array
    else:
        yield from ((f"image {place}", row) for place, row in enumerate(array))


def _channels_last(array: np.ndarray, where: str, inputs: Inputs) -> np.ndarray:
    """[H, W, C] of one image, or [N, H, W, C] of several.

    Where a shape may be read in several ways, the one counts that gives images as the network takes them.
    """
    readings = _readings(array, {1, 3, 4, inputs["channels"]})
    if len(readings) > 1:
        wanted = (inputs["height"], inputs["width"], inputs["channels"])
        readings = [one for one in readings if one.shape[-3:] == wanted] or readings
    if len(readings) == 1 and 0 not in array.shape:
        return readings[0]
    shape = list(array.shape)
    if len(readings) > 1:
        raise ValueError(
            f"{where} has the shape {shape}, which may be read in two ways; give [N, H, W, C], channels last"
        )
    raise ValueError(f"{where} has the shape {shape}; {KINDS}")


def _readings(array: np.ndarray, channels: set[int]) -> list[np.ndarray]:
    """What the sides of an array may mean, with channels last."""
    if array.ndim == 2:
        return [array[..., None]]
    if array.ndim not in (3, 4):
        return []
    found = []
    if array.shape[-1] in channels:
        found.append(array)
    elif array.ndim == 3 and array.shape[0] != 1:
        found.append(array[..., None])  # several grey images
    if array.shape[-3] in channels:
        found.append(array.transpose(1, 2, 0) if array.ndim == 3 else array.transpose(0, 2, 3, 1))
    return found


def _array_image(array: np.ndarray, where: str, inputs: Inputs) -> Read:
    from PIL import Image

    _check_pixels(array, where)
    height, width, channels = array.shape
    size = (height, width)
    if size == (inputs["height"], inputs["width"]) and channels == inputs["channels"]:
        return Read(array.transpose(2, 0, 1), size)
    if channels not in (1, 3, 4):
        raise ValueError(f"{where} has {channels} channels; the network takes {inputs['channels']}")
    return _fitted(Image.fromarray(array[..., 0] if channels == 1 else array), where, inputs)


def _check_pixels(array: np.ndarray, where: str) -> None:
    if array.dtype == "uint8":
        return
    if array.dtype.kind == "f":
        raise TypeError(
            f"{where} holds {array.dtype}: predict wants pixels as they are in a file, uint8 from 0 to 255, and"
            " preprocesses them itself; of pixels in [0, 1] they are (images * 255).round().astype('uint8'), of images that"
            " are standardized already nobody knows. What takes preprocessed tensors is .network"
        )
    wanted = "images.astype('uint8')"
    how = (
        f"of black and white they are {wanted} * 255"
        if array.dtype.kind == "b"
        else f"if these are such, give {wanted}"
    )
    raise TypeError(f"{where} holds {array.dtype}: predict wants uint8 from 0 to 255; {how}")


def _check_mode(image: Image.Image, where: str) -> None:
    """Of a mode that says how bright its brightest pixel is."""
    if image.mode in ("I", "F"):
        raise TypeError(
            f"{where} is a PIL image of mode {image.mode}, which does not say what white is: of pixels from 0 to 255 give"
            " image.convert('L'); of an image file give its path or its bytes, which are read as in training"
        )


def _float_image(image: Any, where: str, inputs: Inputs) -> Read:
    """An image of a data set of floating-point images, of which nobody knows how they come from files."""
    import numpy as np

    shape = (inputs["height"], inputs["width"], inputs["channels"])
    if not _is_array(image) or image.dtype.kind != "f" or image.shape != shape:
        what = f"{image.dtype} {list(image.shape)}" if _is_array(image) else type(image).__name__
        raise TypeError(
            f"{where} is {what}: the network was trained on floating-point images, so that predict takes arrays of float"
            f" [N, {', '.join(map(str, shape))}] in the range of that data set, and nothing else"
        )
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise ValueError(f"{where} holds numbers that are not finite")
    return Read(pixels, shape[:2])


def _picture(image: Any, where: str, inputs: Inputs, crops: bool) -> Read:
    """An image file, or a PIL image."""
    from PIL import Image, ImageOps

    from orchestrator.training.data import decoding, reading

    about = (inputs["height"], inputs["width"]) if crops else None
    if isinstance(image, Image.Image):
        _check_mode(image, where)
    name = f"{where} ({visible(os.fspath(image))})" if isinstance(image, str | os.PathLike) else where
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        warnings.simplefilter("ignore", UserWarning)  # broken metadata do not matter where the pixels are whole
        try:
            if isinstance(image, Image.Image):
                return _fitted(ImageOps.exif_transpose(image), where, inputs)
            opened = reading.opened_bytes(image) if isinstance(image, bytes) else reading.opened_image(os.fspath(image))
            with opened as file:
                size = _upright(file)
                whole = decoding.seen(file, _plain_channels(inputs, where), about=about)
                return _fitted(whole, where, inputs, size)
        except decoding.damage() as error:
            path = os.fspath(image) if isinstance(image, str | os.PathLike) else "/"
            raise ValueError(f"{name} {_told(decoding.why_not(error, path), image)}") from error


def _told(why: str, image: Any) -> str:
    """What is wrong with it, as the end of a sentence."""
    if isinstance(image, str | os.PathLike) and why == "has gone":
        return "is not there"
    return why if why.startswith(("is ", "has ", "claims ", "takes ")) else f"cannot be read: {why}"


def _upright(image: Image.Image) -> Size:
    """The size of an image that is not decoded yet, as it is seen."""
    turned = image.getexif().get(0x0112) in (5, 6, 7, 8)  # the EXIF orientations on their side
    return (image.width, image.height) if turned else (image.height, image.width)


def _fitted(image: Image.Image, where: str, inputs: Inputs, size: Size | None = None) -> Read:
    from orchestrator.training.data import decoding

    channels = _plain_channels(inputs, where)
    whole = decoding.seen(image, channels)
    pixels = decoding.fitted(whole, inputs["height"], inputs["width"], channels)
    return Read(pixels.transpose(2, 0, 1), size or (image.height, image.width))


def _plain_channels(inputs: Inputs, where: str) -> int:
    if inputs["channels"] not in (1, 3):
        raise ValueError(
            f"{where} is grey or in colour; the network takes {inputs['channels']} channels: give uint8"
            f" [N, {inputs['height']}, {inputs['width']}, {inputs['channels']}]"
        )
    return inputs["channels"]
