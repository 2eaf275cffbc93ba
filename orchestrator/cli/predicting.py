"""predict: what a trained model says of image files."""

from __future__ import annotations

import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, NotReadyError, Problem
from orchestrator.base.text import say, table, visible
from orchestrator.cli.parser import Parser, add_runs_dir

if TYPE_CHECKING:
    from orchestrator.serving.pooled import EnsemblePredictor
    from orchestrator.serving.predictor import Prediction, Predictor

AT_ONCE = 64
"""Images that go through the network together."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""What of a folder is an image. A file that is named is read whatever its name ends in."""

SETTINGS = (
    "allowed_targets: {targets} to your settings file (~/.config/orchestrator/settings.yaml, or what"
    " ORCHESTRATOR_SETTINGS names), and import_paths: {folders}"
)

Answers = dict[Path, "Prediction | str"]
"""What the model says of a file, or what is wrong with the file."""


def predict_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator predict",
        description="Classify image files with a trained model: the winner of a comparison, the best trial of a sweep, a trial,"
        " or a model of MLflow.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a sweep, one of its trials (digits-0a1b2c3d/7), a comparison, the folder of a model, or models:/NAME@champion",
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image files, and folders of such")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="the N most probable classes (default: 1)")
    parser.add_argument("--json", action="store_true", help="for programs: a list with an entry for each file")
    add_runs_dir(parser)
    options = parser.parse_intermixed_args(argv)
    if options.top < 1:
        raise ConfigError(Problem("--top", "must be at least 1", options.top))
    if not options.images:
        hint = (
            f"name image files, or folders of such:  orchestrator predict {shlex.quote(options.model)} photos/ --top 3"
        )
        raise ConfigError(Problem("IMAGE", "there is nothing to classify", hint=hint))
    files = list(dict.fromkeys(_files(options.images)))
    model = _model(options.model, options.runs_dir)
    answers = _answers(model, files)
    _show(answers, options.top, as_json=options.json)
    unread = {path: why for path, why in answers.items() if isinstance(why, str)}
    for path, why in unread.items():
        say(f"error: {_name(path)}: {why}", sys.stderr)
    return errors.EXIT_BAD_INPUT if unread else errors.EXIT_OK


def _files(names: Sequence[str]) -> Iterator[Path]:
    """The files that were named, and the images below folders that were, in the order of their names.

    Raises:
        ConfigError: one is not there, or a folder holds no image.
        NotReadyError: a folder cannot be read.
    """
    for name in names:
        path = Path(os.path.expanduser(name))
        if not name or not os.path.lexists(path):
            raise ConfigError(Problem("IMAGE", "there is no such file or folder", name))
        if not os.path.isdir(path):
            yield path
            continue
        try:
            found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and not one.is_dir())
        except OSError as error:
            raise NotReadyError(f"{name} cannot be read ({error.strerror})") from error
        if not found:
            raise ConfigError(Problem("IMAGE", f"the folder holds no image ({', '.join(SUFFIXES)})", name))
        yield from found


def _model(name: str, runs_dir: Path) -> Predictor | EnsemblePredictor:
    from orchestrator.config.rights import read_user_rights
    from orchestrator.housekeeping.comparisons import find_comparison, same_named
    from orchestrator.serving.loading import load

    same = same_named(runs_dir, name)
    if len(same) > 1 and find_comparison(runs_dir, name) == same[0] and not os.path.isdir(os.path.expanduser(name)):
        say(f"{same[0].name} answers, the newest of {len(same)} comparisons called {name}", sys.stderr)
    return load(name, runs_dir, read_user_rights(), how=SETTINGS)


def _answers(model: Predictor | EnsemblePredictor, files: Sequence[Path]) -> Answers:
    """What the model says of each file, and once what is to be known of their sizes."""
    found: Answers = {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for start in range(0, len(files), AT_ONCE):
            found |= _together(model, files[start : start + AT_ONCE])
    read = [one for one in found.values() if not isinstance(one, str)]
    resized = sum(one.resized_from is not None for one in read)
    if told and resized:
        say(
            f"{resized} of {len(read)} images have another size than those of the training; they are scaled and cropped at the"
            " centre, which the network has never seen",
            sys.stderr,
        )
    return found


def _together(model: Predictor | EnsemblePredictor, files: Sequence[Path]) -> Answers:
    """The same of a few files; where one cannot be read, each by itself."""
    try:
        return dict(zip(files, model.predict(list(files)), strict=True))
    except (ValueError, TypeError, OSError) as error:
        if len(files) == 1:
            return {files[0]: _why(error, files[0])}
    return {path: answer for one in files for path, answer in _together(model, [one]).items()}


def _why(error: Exception, path: Path) -> str:
    """What is wrong with a file, without what calls it `image 0`."""
    text = " ".join(str(error).split())
    return text.removeprefix(f"image 0 ({visible(str(path))}) ")[:500]


def _show(answers: Answers, top: int, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps([_entry(path, answer, top) for path, answer in answers.items()], indent=1))
        return
    rows = [
        [_name(path) if not place else "", _flat(name), f"{100 * share:.1f} %"]
        for path, answer in answers.items()
        if not isinstance(answer, str)
        for place, (name, share) in enumerate(_best(answer, top))
    ]
    if rows:
        say("\n".join(table(["file", "class", "probability"], rows)))


def _entry(path: Path, answer: Prediction | str, top: int) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"file": str(path), "error": answer}
    classes = [{"class": name, "probability": share} for name, share in _best(answer, top)]
    return {"file": str(path), "classes": classes}


def _best(answer: Prediction, top: int) -> list[tuple[str, float]]:
    return sorted(answer.probabilities.items(), key=lambda one: -one[1])[:top]


def _name(path: Path) -> str:
    return _flat(str(path))


def _flat(text: str) -> str:
    """A name in one line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
