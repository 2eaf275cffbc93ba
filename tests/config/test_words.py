"""The field's other words lead to what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.base.build import parameters
from orchestrator.base.errors import ConfigError, nearest
from orchestrator.base.groups import PROVIDED
from orchestrator.base.settings import ROOT_KEYS
from orchestrator.base.targets import resolve
from orchestrator.config import catalogue
from orchestrator.config.files import open_catalogue
from orchestrator.config.planning import compose_job
from orchestrator.config.words import CHOICES, KEYS, _letters

FILES = open_catalogue(None)


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError, match=r"\S") as caught:
        compose_job(overrides)
    return str(caught.value)


def has(group: str, choice: str, name: str) -> bool:
    spec, _ = FILES.choice(group, choice)
    return bool(spec) and name in parameters(resolve(spec["_target_"]), PROVIDED.get(group, ()))


def exists(typed: str) -> bool:
    """Whether all choices and keys of a right side are there, a key in the choice that stands before it."""
    chosen: dict[str, str] = {}
    for part in typed.split():
        key, equals, value = part.partition("=")
        group, dot, name = key.partition(".")
        if dot:
            choices = [chosen[group]] if group in chosen else list(FILES.files[group])
            if not any(has(group, choice, name) for choice in choices):
                return False
        elif equals:
            chosen[group] = value
            if value not in FILES.files[group]:
                return False
        elif key not in (*ROOT_KEYS, *FILES.files):
            return False
    return True


@pytest.mark.parametrize("group", CHOICES)
def test_words_for_choices_lead_to_what_is_there(group: str) -> None:
    for word, meant in CHOICES[group].items():
        assert exists(meant if "=" in meant or "." in meant else f"{group}={meant}"), word


def test_words_for_keys_lead_to_what_is_there() -> None:
    assert [word for word, meant in KEYS.items() if not exists(meant)] == []


def test_no_word_is_a_name_itself_or_stands_twice() -> None:
    """It would never be looked up."""
    for group, words in CHOICES.items():
        letters = [_letters(word) for word in words]
        assert len(set(letters)) == len(letters), group
        assert not {_letters(name) for name in FILES.files[group]} & set(letters), group
    letters = [_letters(word) for word in KEYS]
    assert len(set(letters)) == len(letters)
    assert not {_letters(name) for name in (*ROOT_KEYS, *FILES.files)} & set(letters)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("init=he", "not in conf/init; it is called kaiming here; known: "),
        ("init=he,glorot", "init=glorot: not in conf/init; it is called xavier here"),
        ("init=normal", "it is called gaussian here"),
        ("init=truncated_normal", "it is called gaussian here"),
        ("augment=RandomCrop", "it is called crop here"),
        ("augment=color_jitter", "it is called contrast_and_brightness here"),
        ("preprocess=zca", "it is called whiten here"),
        ("optimizer=NAG", "it is called nesterov here"),
        ("schedule=reduce_on_plateau", "it is called plateau here"),
        ("schedule=linear", "here it is  schedule=polynomial schedule.power=1; known"),
        ("penalty=weight_decay", "it is called optimizer.weight_decay here"),
        ("loss=svm", "it is called hinge here"),
        ("model=resnet", "it is called resnet_cifar here"),
        ("warmup_epochs=2", "unknown key; it is called schedule.warmup_epochs here"),
        ("max_grad_norm=1", "it is called clip_grad_norm here"),
        ("ema=0.99", "it is called ema_decay here"),
        ("patience=5", "here it is  early_stopping=patience early_stopping.patience; known"),
        ("optimizer.learning_rate=0.1", "it is called optimizer.lr here"),
    ],
)
def test_unknown_name_is_answered_in_the_words_of_this_catalogue(typed: str, said: str) -> None:
    assert said in refused(typed)


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("adamW", ("adam", "adamw"), "adamw"),
        ("ResNet-18", ("resnet18", "resnet110"), "resnet18"),
        ("CrossEntropy", ("cross_entropy", "hinge"), "cross_entropy"),
    ],
)
def test_spelling_comes_before_likeness(word: str, names: tuple[str, ...], meant: str) -> None:
    assert nearest(word, names) == meant


def test_name_spelled_otherwise_is_no_other_word() -> None:
    assert "optimizer=adamW: not in conf/optimizer; did you mean adamw?" in refused("optimizer=adamW")


def test_key_of_another_choice_names_those_that_have_it() -> None:
    said = "early_stopping.patience=5: early_stopping=none has no patience; early_stopping=patience has it"
    assert refused("early_stopping.patience=5") == said
    assert refused("early_stopping.patience=5,7") == said.replace("=5:", "=5,7:")
    momentum = refused("optimizer=adam", "optimizer.momentum=0.9")
    assert (
        "optimizer=adam has no momentum; optimizer=gradient_descent, momentum, muon, nesterov and 2 more have it"
        in momentum
    )
    assert "there is nothing to set here" in refused("early_stopping.patients=5")


def test_list_of_augmentations_is_searched_or_done_in_turn() -> None:
    said = refused("augment=[flip,cutout]")
    assert "write  augment=flip,cutout; for one after the other  augment=sequence augment.steps='[flip,cutout]'" in said
    typed = compose_job(["augment=sequence", "augment.steps=[flip,cutout]"])
    assert yaml.safe_load(typed)["augment"]["steps"] == ["flip", "cutout"]
    assert "sequence" not in refused("norm=[batch,layer]")


def test_list_and_show_know_the_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init=he: is not in conf/init; it is called kaiming here"):
        catalogue.file_of("init", "he", tmp_path)
