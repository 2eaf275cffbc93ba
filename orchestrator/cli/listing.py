"""list: what there is to choose from, and what an architecture costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.base import errors
from orchestrator.base.errors import ConfigError, Problem, nearest
from orchestrator.base.text import say, table
from orchestrator.cli.parser import Parser

if TYPE_CHECKING:
    from orchestrator.base.rights import Rights

CONVENTIONS = ("plain", "lecture_vgg", "lecture_resnet")


def list_command(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="orchestrator list",
        description="List the groups, the choices of a group, or one choice with its values; of a model what it costs.",
    )
    parser.add_argument("group", nargs="?")
    parser.add_argument("choice", nargs="?")
    parser.add_argument(
        "overrides", nargs="*", help="of a model: model.width=0.5 norm=group activation=elu, as for a launch"
    )
    parser.add_argument("--layers", action="store_true", help="a row for each layer of the model")
    parser.add_argument(
        "--convention",
        choices=CONVENTIONS,
        default="plain",
        help="how --layers counts: as the network is (default), weights alone, or with biases and by residual unit",
    )
    parser.add_argument("--image-size", type=int, metavar="N", help="images of NxN; those of the paper where absent")
    parser.add_argument("--channels", type=int, default=3, metavar="N", help="channels of the images (default: 3)")
    parser.add_argument("--classes", type=int, metavar="N", help="classes; those of the paper where absent")
    parser.add_argument("--config-dir", type=Path)
    options = parser.parse_intermixed_args(argv)
    _check_use(options)
    if options.group is None:
        return _list_groups(options)
    _check_group(options)
    if options.choice is None:
        return _list_choices(options)
    return _show_model(options) if options.group == "model" else _show_choice(options)


def _check_use(options: argparse.Namespace) -> None:
    """Options that say something of one model need one."""
    given = {
        "--layers": options.layers,
        "--convention": options.convention != "plain",
        "--image-size": options.image_size is not None,
        "--channels": options.channels != 3,
        "--classes": options.classes is not None,
    }
    wrong = [name for name, there in given.items() if there]
    if wrong and (options.group != "model" or options.choice is None):
        raise ConfigError(Problem(wrong[0], "is for one model: orchestrator list model NAME"))
    if options.convention != "plain" and not options.layers:
        raise ConfigError(Problem("--convention", "is how --layers counts; add --layers"))


def _list_groups(options: argparse.Namespace) -> int:
    from orchestrator.config.catalogue import choices, groups

    for group in groups(options.config_dir):
        say(f"{group:<12} {', '.join(name for name, _ in choices(group, options.config_dir))}")
    return errors.EXIT_OK


def _check_group(options: argparse.Namespace) -> None:
    from orchestrator.config.catalogue import groups

    known = groups(options.config_dir)
    if options.group not in known:
        near = nearest(options.group, known)
        raise ConfigError(
            Problem(options.group, "is not a group", nearest=near, known=(*known,), listed_by="orchestrator list")
        )


def _list_choices(options: argparse.Namespace) -> int:
    from orchestrator.config.catalogue import choices

    found = choices(options.group, options.config_dir)
    header, rows = ["choice", "what it is"], [list(row) for row in found]
    if options.group == "model":
        from orchestrator.training.architectures import HEADER, overview

        header, rows = HEADER, overview(found)
    for line in table(header, rows):
        say(line)
    if options.group == "model":
        say("Figures are for the images and classes of each paper; `orchestrator list model NAME` has more.")
    return errors.EXIT_OK


def _show_choice(options: argparse.Namespace) -> int:
    from orchestrator.base.groups import SEARCHES
    from orchestrator.config.catalogue import choices, file_of
    from orchestrator.config.rights import typed_rights

    rights, others = typed_rights(options.overrides)
    if others:
        why = f"is for models; list {options.group} {options.choice} shows its values"
        raise ConfigError(Problem(others[0], why))
    path = file_of(options.group, options.choice, options.config_dir)
    if options.group in SEARCHES:
        say(path.read_text(encoding="utf-8").rstrip())
        return errors.EXIT_OK
    what = dict(choices(options.group, options.config_dir))[options.choice]
    say(f"{options.group}={options.choice}" + (f": {what}" if what else ""))
    say("")
    for line in _key_lines(options, path, rights):
        say(line)
    return errors.EXIT_OK


def _key_lines(options: argparse.Namespace, path: Path, rights: Rights) -> list[str]:
    """The table of a choice's keys, and what it makes."""
    from orchestrator.base import yaml_files
    from orchestrator.base.rights import granted
    from orchestrator.config.described import HEADER, keys_of_choice

    with granted(rights):
        keys = keys_of_choice(options.group, path)
    lines = table(HEADER, [key.row for key in keys]) if keys else ["there is nothing to set"]
    if any(key.type == "?" for key in keys):
        lines.append("types marked ? are in code of yours: add allowed_targets=[PACKAGE] and import_paths=[FOLDER]")
    target = yaml_files.read(path).get("_target_")
    return [
        *lines,
        "",
        f"_target_: {target}" if target else "no target: as the architecture has it, or none",
        str(path),
    ]


def _show_model(options: argparse.Namespace) -> int:
    from orchestrator.config.catalogue import file_of

    for name, minimum in (("image_size", 1), ("channels", 1), ("classes", 1)):
        value = getattr(options, name)
        if value is not None and value < minimum:
            raise ConfigError(Problem(f"--{name.replace('_', '-')}", f"must be at least {minimum}", value))
    from orchestrator.training.architectures import describe, describe_example, layer_table, summary

    if (example := describe_example(options.choice)) is not None and not options.overrides:
        for line in table(*layer_table(example, options.convention)):
            say(line)
        return errors.EXIT_OK
    path = file_of("model", options.choice, options.config_dir)
    from orchestrator.base.rights import granted
    from orchestrator.config.planning import fixed_trial

    config, rights = fixed_trial([f"model={options.choice}", *options.overrides], config_dir=options.config_dir)
    with granted(rights):
        found = describe(
            config,
            num_classes=options.classes,
            in_channels=options.channels,
            image_size=options.image_size and (options.image_size, options.image_size),
        )
    if options.layers:
        lines = table(*layer_table(found, options.convention))
    else:
        lines = [*summary(found), "", *_key_lines(options, path, rights)]
    for line in lines:
        say(line)
    return errors.EXIT_OK
