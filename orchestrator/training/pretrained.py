"""The weights that a trial begins with (`pretrained=`): where they are, whether they are those of the record, and into the model.

A value is the path of a file, a trial of ours (`SWEEP/7`), or a name that torchvision knows. Planning finds the file once and
writes its path and SHA-256 into the configuration (`pretrained_files`); whoever reads it later refuses another one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models import foreign, pretrained
from orchestrator.base.build import build
from orchestrator.base.errors import NotReadyError
from orchestrator.base.regular import read_regular
from orchestrator.base.settings import PRETRAINED_FILES
from orchestrator.base.targets import resolve
from orchestrator.training.data.torchvision_sets import timeout
from orchestrator.training.device import derive_seed
from orchestrator.training.inputs import of_network

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".tar")
DEFAULT_NAMES = ("imagenet", "torchvision")
"""Both are what torchvision itself takes for its best weights of a network."""

DOWNLOAD_TIMEOUT_S = 30.0
"""Without any byte."""

MOST_BYTES = 2**33
"""The largest file that is read: it is in memory whole, and the largest network of the catalogue has 0.6 GB."""

KEPT_BYTES = 2**28
"""The tensors of a file are kept for the next trial of the process up to this size."""


@dataclass(frozen=True)
class KeptWeights:
    """A file of weights, such as a trial of ours kept.

    Args:
        trial: its whole name; "" for a file that is not ours.
        config: of that trial.
    """

    path: Path
    trial: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


FindTrial = Callable[[str], KeptWeights]
"""From `SWEEP/7` to the weights that it kept; raises ConfigError or NotReadyError."""


def is_trial(value: str) -> bool:
    """Whether a value names a trial of ours, and no file."""
    return re.fullmatch(r"[^/]+/[0-9]+", value) is not None and not os.path.exists(value)


def is_name(value: str) -> bool:
    """Whether a value is a name for torchvision, which stands for another file with each model."""
    return not (is_trial(value) or "/" in value or value.startswith("~") or value.lower().endswith(SUFFIXES))


def key_of(value: str, model: str) -> str:
    """Under which key `pretrained_files` holds the file of a value, for a choice of model."""
    return f"{value} {model}" if is_name(value) else value


def located(value: str, model: str, base: Path, *, find_trial: FindTrial | None, fetch: bool) -> KeptWeights | None:
    """The file that a value stands for; None where it would have to be brought, and `fetch` is false.

    Args:
        model: the choice of model, such as `resnet18`.
        base: relative paths are taken from here.

    Raises:
        ValueError: the value is none of the three, or a folder.
        ConfigError: there is no such trial.
        NotReadyError: the file is not there, or could not be downloaded.
    """
    if not value.strip() or "\0" in value:
        raise ValueError("must be a file (.pth, .safetensors), a trial of ours (SWEEP/7) or imagenet")
    if is_trial(value):
        if find_trial is None:
            raise ValueError("names a trial, which can only be looked up where the sweep is launched; name its file")
        return find_trial(value)
    if is_name(value) and not os.path.exists(value):
        path = _of_torchvision(value, model, fetch)
        return None if path is None else KeptWeights(path)
    path = base / Path(value).expanduser()
    if path.is_dir():
        raise ValueError(f"is a folder; name the file in it{_files_in(path)}")
    if not path.exists():
        raise NotReadyError(f"pretrained={value}: {path} does not exist{_nearest_file(path)}")
    return KeptWeights(path)


def digest(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        ValueError: it is too large to be weights.
        NotReadyError: it cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def file_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Path and SHA-256 of the weights that a trial begins with; None where it has none.

    Raises:
        NotReadyError: its configuration does not say where they are.
    """
    value = config["pretrained"]
    if value is None:
        return None
    key = key_of(value, config["choices"]["model"])
    found = config.get(PRETRAINED_FILES, {}).get(key)
    if found is None:
        raise NotReadyError(f"pretrained={value}: the configuration does not say which file this is")
    return found  # type: ignore[no-any-return]


def ticket_key(ticket: str) -> str:
    """Under which key `pretrained_files` holds the file of a ticket."""
    return f"ticket {ticket}"


def ticket_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Path and SHA-256 of the trained weights of a trial's ticket, and the seed of its initial ones; None where it has none.

    Raises:
        NotReadyError: its configuration does not say where they are.
    """
    value = config.get("ticket")
    if value is None:
        return None
    found = config.get(PRETRAINED_FILES, {}).get(ticket_key(value))
    if found is None:
        raise NotReadyError(f"ticket={value}: the configuration does not say which file this is")
    return found  # type: ignore[no-any-return]


def initial_seed(config: Mapping[str, Any]) -> int:
    """The seed from which the initial weights follow: the trial's own, or that of its ticket unless `prune` wants others."""
    ticket, seed = ticket_of(config), int(config["seed"])
    if ticket is None:
        return seed
    if getattr(build(config.get("prune") or {}), "reinit", False):
        return derive_seed(seed, "reinit")  # the seed itself may be that of the ticket
    return int(ticket["seed"])


def take_over(config: Mapping[str, Any], model: nn.Module) -> pretrained.Fit | None:
    """Give the whole network of a configuration the weights that it begins with; how they fit, None where it has none.

    Raises:
        ValueError: they do not fit.
        NotReadyError: the file is not there, or another one than recorded.
    """
    file = file_of(config)
    if file is None or from_scratch(config):
        return None
    weights = read(Path(file["path"]), file["sha256"])
    fitted = fits(config, model, weights)
    pretrained.take_over(model, weights, fitted)
    return fitted


def from_scratch(config: Mapping[str, Any]) -> bool:
    """Whether `transfer` leaves the weights aside that there are."""
    return bool(getattr(build(config.get("transfer") or {}), "from_scratch", False))


def fits(config: Mapping[str, Any], model: nn.Module, weights: Mapping[str, Tensor]) -> pretrained.Fit:
    """How weights fit the network of a configuration, which may be on the meta device.

    Raises:
        ValueError: they do not; the message says which tensors.
    """
    file = file_of(config) or {}
    tables = foreign.tables(resolve(config["model"]["_target_"]))
    return pretrained.fit(model, weights, tables, other_classes=bool(file.get("other_classes")))


_kept: dict[str, dict[str, Tensor]] = {}


def read(path: Path, sha256: str) -> Mapping[str, Tensor]:
    """The tensors of a file, which the process keeps for its next trial unless they are large.

    Raises:
        ValueError: it is no state dict.
        NotReadyError: it is not there, or not what was recorded.
    """
    if sha256 in _kept:
        return _kept[sha256]
    contents = _read(path)
    if hashlib.sha256(contents).hexdigest() != sha256:
        raise NotReadyError(
            f"{path} is not the file that the sweep began with (its SHA-256 is not {sha256[:12]}...); put that one back"
        )
    _kept.clear()
    weights = of_network(pretrained.read_weights(contents))
    if sum(tensor.nbytes for tensor in weights.values()) <= KEPT_BYTES:
        _kept[sha256] = weights
    return weights


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ValueError(f"has {size / 2**30:,.0f} GiB; weights of more than {MOST_BYTES >> 30} GiB are not read")
        return read_regular(path)
    except OSError as error:
        raise NotReadyError(f"the pretrained weights {path} cannot be read here ({error.strerror})") from error


def _of_torchvision(name: str, model: str, fetch: bool) -> Path | None:
    """The file of torchvision's weights for a model, downloaded where it is not there; None where that is not wanted."""
    theirs = pretrained.TORCHVISION_NAMES.get(model, model)
    known = [*DEFAULT_NAMES]
    if name in DEFAULT_NAMES or name.isupper():
        import torch.hub
        from torchvision.models import get_model_weights, list_models  # type: ignore[import-untyped]

        ours = {theirs: ours for ours, theirs in pretrained.TORCHVISION_NAMES.items()}
        if theirs not in list_models() or model in ours:
            other = f" (its {model} is model={ours[model]} here)" if model in ours else ""
            hint = "name a file, or a trial of ours (SWEEP/7)"
            raise ValueError(f"torchvision has no weights for model={model}{other}; {hint}")
        choices = get_model_weights(theirs).__members__
        known += choices
        if name in known:
            weights = choices["DEFAULT" if name in DEFAULT_NAMES else name]
            return _downloaded(weights.url, Path(torch.hub.get_dir(), "checkpoints"), name, fetch)
    near = get_close_matches(name, known, n=1)
    hint = (
        f"; did you mean {near[0]}?"
        if near
        else f"; there are {', '.join(known)}: torchvision's best weights of the model"
    )
    raise ValueError(f"is neither a file that is there, nor a trial (SWEEP/7), nor a name of weights{hint}")


def _downloaded(url: str, folder: Path, name: str, fetch: bool) -> Path | None:
    import torch.hub

    path = folder / url.rpartition("/")[2]
    if path.is_file():
        return path
    if not fetch:
        return None
    begins = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with timeout(DOWNLOAD_TIMEOUT_S):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=begins and begins[1], progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # OSError: no network; RuntimeError: another hash
        why = " ".join(str(error).split())[:200]
        raise NotReadyError(
            f"pretrained={name}: {url} could not be downloaded ({why}); put the file at {path}, or name another with"
            " pretrained=FILE"
        ) from error
    return path


def _files_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*") if path.suffix in SUFFIXES)
    return f": {', '.join(names[:5])}" if names else ""


def _nearest_file(path: Path) -> str:
    there = (
        [other.name for other in path.parent.glob("*") if other.suffix in SUFFIXES and other != path]
        if path.parent.is_dir()
        else []
    )
    near = get_close_matches(path.name, there, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
