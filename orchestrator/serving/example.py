"""What goes with a served model for people: an input to try it with, and a README that says what it takes."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from orchestrator.base.inputs import Inputs, unique_names
from orchestrator.base.text import visible

EXAMPLE = "input_example.json"
SERVING_EXAMPLE = "serving_input_example.json"
CLASSES_SHOWN = 20


def example_files(inputs: Inputs) -> tuple[dict[str, str], dict[str, Any]]:
    """The files of an input example, and what the MLmodel says of them: a grey ramp, of the network's size.

    It is an image file where the network takes pictures, and an array where files cannot hold what it takes.
    """
    info = {"artifact_path": EXAMPLE, "serving_input_path": SERVING_EXAMPLE}
    if inputs["dtype"] == "uint8" and inputs["channels"] in (1, 3):
        table = {"columns": ["image"], "data": [[base64.b64encode(_png(inputs)).decode()]]}
        files = {EXAMPLE: json.dumps(table), SERVING_EXAMPLE: json.dumps({"dataframe_split": table}, indent=2)}
        return files, info | {"type": "dataframe", "pandas_orient": "split"}
    array = {"image": [_ramp(inputs)]}
    return {EXAMPLE: json.dumps(array), SERVING_EXAMPLE: json.dumps({"inputs": array})}, info | {"type": "ndarray"}


def _ramp(inputs: Inputs) -> list[list[list[float]]]:
    """[H][W][C]"""
    height, width, channels = inputs["height"], inputs["width"], inputs["channels"]
    whole = inputs["dtype"] == "uint8"
    values = [255 * x // max(width - 1, 1) if whole else x / max(width - 1, 1) for x in range(width)]
    return [[[value] * channels for value in values] for _ in range(height)]


def _png(inputs: Inputs) -> bytes:
    """The ramp as a PNG of 8 bits, grey or in colour."""
    rows = b"".join(
        b"\0" + bytes(int(value) for pixel in row for value in pixel) for row in _ramp(inputs)
    )  # each row without a filter
    header = struct.pack(">IIBBBBB", inputs["width"], inputs["height"], 8, 0 if inputs["channels"] == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, contents) for kind, contents in chunks)


def _chunk(kind: bytes, contents: bytes) -> bytes:
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def readme(trial: str, inputs: Inputs) -> str:
    """How to use the model of a trial, in Markdown."""
    height, width, channels = inputs["height"], inputs["width"], inputs["channels"]
    size = f"{height}x{width} ({channels} channel{'s' if channels > 1 else ''})"
    takes = f"brings them to {size}, preprocesses them as in\ntraining"
    return _readme(f"The network of trial {trial}", takes, inputs)


def readme_of_ensemble(name: str, inputs: Inputs, members: int) -> str:
    """How to use the model of an ensemble, in Markdown."""
    takes = "brings them to the size of each member, preprocesses them as in its training, pools what\nthe members say"
    return _readme(f"An ensemble of {members} networks: the winner of {_inline(name)}", takes, inputs)


def _readme(title: str, takes: str, inputs: Inputs) -> str:
    names = [f"`{_inline(name)}`" for name in unique_names(inputs["classes"])]
    more = f" and {len(names) - CLASSES_SHOWN} more" if len(names) > CLASSES_SHOWN else ""
    floats = _FLOATS if inputs["dtype"] == "float32" else ""
    return f"""# {title}

Takes images, {takes}, and gives the probability of each of {len(names)} classes: {", ".join(names[:CLASSES_SHOWN])}{more}.
{floats}
    mlflow models serve --env-manager local -m runs:/RUN/model -p 5001

    curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
      -d "{{\\"dataframe_records\\": [{{\\"image\\": \\"$(base64 -w0 FILE.jpg)\\"}}]}}"

It takes

- `{{"dataframe_records": [{{"image": "..."}}, ...]}}`, or `{{"inputs": ["...", ...]}}`: the bytes of image files in base64;
- `{{"inputs": [[[[0, ...], ...], ...], ...]}}`: pixels as whole numbers from 0 to 255, [N, H, W, C], channels last.

and answers with `{{"predictions": [{{CLASS: probability, ...}}, ...]}}`. In Python:

    model = mlflow.pyfunc.load_model("runs:/RUN/model")
    model.predict(pixels)                                                     # uint8 [N, H, W, C]
    model.predict(pandas.DataFrame({{"image": [Path("FILE.jpg").read_bytes()]}}))  # image files

Paths are not opened. Preprocessed images are not taken.
"""


_FLOATS = """
It was trained on floating-point images, and takes such arrays alone, in the range of that data set.
"""


def _inline(name: str) -> str:
    """A name of a class between backticks."""
    return visible(name).replace("`", "'")[:100]
