"""Whatever a user types or writes, the decoders give plain data or a message with its place; nothing else, and soon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.base import yaml_files
from orchestrator.base.errors import ConfigError, OrchestratorError
from orchestrator.base.plain import MAX_DEPTH, why_not_plain
from orchestrator.base.settings import CONF
from orchestrator.config.grammar import parse, to_domain, written_sweep
from orchestrator.config.planning import compose_job
from orchestrator.config.rights import read_user_rights
from orchestrator.space.domains import decode_domain, encode_domain


def bounded(examples: int) -> settings:
    """So many examples, the same each time."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=slow)


def outcome(work: Callable[[], Any], refusal: type[Exception]) -> tuple[Any, str | None]:
    """What the work gives, or the message with which it refuses; any other exception escapes."""
    try:
        return work(), None
    except refusal as error:
        return None, str(error)


WORDS = """a b 1 -1 0 2.5 1e-4 1e400 nan inf null true ??? usual '' ' " ( ) [ ] { } , : = ~ + @ / $ ${a} ${oc.env:HOME} \\ é # *
choice( range( interval( tag( tag(log, int( float( str( bool( shuffle( sort( glob( extend_list( log sgd adam model optimizer
optimizer.lr model.width search trials seed _target_"""
PIECES = [*WORDS.split(), " ", "9" * 30, "9" * 5000, "[" * 60, "{a:" * 20]
VALUES = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=20))
KEYS = st.one_of(
    st.sampled_from(["a", "model", "model.width", "optimizer.lr", "seed", "loss", "~seed", "+a", "x@y"]), VALUES
)


def decoded(text: str) -> Any:
    """The value of an override, or the ends of its domain, which a record keeps."""
    override = parse(text)
    if not override.is_sweep_override():
        return override.value()
    domain = to_domain(override.value(), ["adam", "sgd"])
    assert decode_domain(encode_domain(domain)) == domain
    return domain.ends()


@bounded(300)
@given(key=KEYS, value=VALUES)
def test_an_override_is_a_value_a_domain_or_a_message(key: str, value: str) -> None:
    found, message = outcome(lambda: decoded(f"{key}={value}"), ValueError)
    assert message or repr(found)


@bounded(150)
@given(written=st.one_of(VALUES, st.integers(), st.none(), st.lists(VALUES), st.floats(allow_subnormal=False)))
def test_a_written_sweep_is_a_sweep_or_a_message(written: object) -> None:
    sweep, message = outcome(lambda: written_sweep("optimizer.lr", written), ValueError)
    assert message or sweep is not None


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_subnormal=False), st.text(max_size=12),
    st.binary(max_size=4), st.dates(),
    st.just(10**30),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
LINES = r"""a: 1|b: [|- c|{|? x|: y|a: !!int abc|a: &x [*x]|&x a: *x|a: !!python/name:os.system x|<<: 3|<<: {a: 1}|%TAG ! x|---
...|a: 'x|e: !!binary x|f: 0x|g: 1__0|h: =|3: 4|i: !!float x|j: !!set {a}|k: 2020-13-41|_target_: 3|search: text
when: {3: {}}|defaults: 3"""
ODD_LINES = [
    *LINES.replace("\n", "|").split("|"),
    "\ta: 1",
    "l: \x00",
    "m: \ud800",
    "c: " + "9" * 5000,
    "d: " + "[" * 300,
]


def check_file(path: Path) -> None:
    """Reading gives plain data, or one message that names the file."""
    found, message = outcome(lambda: yaml_files.read(path), ConfigError)
    if message is None:
        assert why_not_plain(found) is None
    else:
        assert str(path) in message
        assert "\n" not in message


@bounded(100)
@given(tree=TREES)
def test_a_yaml_of_any_tree_is_plain_data_or_a_message(tree: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", errors="replace")
    check_file(path)


@bounded(200)
@given(text=st.one_of(st.lists(st.sampled_from(ODD_LINES), max_size=6).map("\n".join), st.text(max_size=60)))
def test_a_yaml_of_any_text_is_plain_data_or_a_message(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    check_file(path)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{b: ", "}")])
def test_depth_is_bounded_where_it_says(opening: str, closing: str, tmp_path: Path) -> None:
    def read(depth: int) -> object:
        (tmp_path / "a.yaml").write_text(f"a: {opening * depth}1{closing * depth}\n")
        return yaml_files.read(tmp_path / "a.yaml")

    assert read(MAX_DEPTH - 1)
    with pytest.raises(ConfigError, match="nested more than 16 deep"):
        read(MAX_DEPTH + 1)


ODD_VALUES = r"""3|null|text|[a]|{a: b}|{3: 4}|!!int abc|1e400|${x}|'???'|[[[1]]]|{_target_: os.system}|'choice(1,2'|usual
choice(1,2)|true|-1|{model.width: 3}|[{model: mlp}, 3]|{optimizer=sgd: {optimizer.lr: 3}}|"\x00"|999999999999999999999999999999"""
ODD = st.sampled_from(ODD_VALUES.replace("\n", "|").split("|"))
FILES = sorted([*CONF.glob("*/*.yaml"), CONF / "launch.yaml"])


def mutated(text: str, line: int, value: str, how: str) -> str:
    """A file of ours with a value or a key replaced, a line more or less."""
    lines = text.splitlines() or ["search: none"]
    place = line % len(lines)
    key, _, own = lines[place].partition(":")
    if how == "less":
        del lines[place]
    elif how == "more":
        lines.insert(place, f"{key}: {value}")
    else:
        lines[place] = f"{key}: {value}" if how == "value" else f"{value}:{own}"
    return "\n".join(lines) + "\n"


def compose_changed(conf: Path, original: Path, text: str) -> str | None:
    """The message of composing with a changed file under another name, in a folder as a user has one; None where it is right."""
    group = original.parent.name if original.parent != CONF else ""
    for old in conf.glob("**/*.yaml"):
        old.unlink()
    path = conf / group / "changed.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    overrides, name = ([f"{group}=changed"], "launch") if group else ([], "changed")
    return outcome(lambda: compose_job(overrides, config_dir=conf, config_name=name), OrchestratorError)[1]


@bounded(20)
@given(
    path=st.sampled_from(FILES),
    line=st.integers(0, 60),
    value=ODD,
    how=st.sampled_from(["value", "value", "key", "more", "less"]),
)  # fmt: skip
def test_a_changed_file_of_ours_gives_a_configuration_or_a_message(
    path: Path, line: int, value: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = compose_changed(tmp_path / "conf", path, mutated(path.read_text(), line, value, how))
    assert message is None or message.strip()


@bounded(60)
@given(
    key=st.sampled_from(["allowed_targets", "import_paths", "x"]), value=st.one_of(TREES, st.lists(st.text(max_size=5)))
)
def test_a_settings_file_gives_rights_or_a_message(
    key: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "settings.yaml"
    monkeypatch.setenv("ORCHESTRATOR_SETTINGS", str(path))
    path.write_text(yaml.safe_dump({key: value}, allow_unicode=True), encoding="utf-8", errors="replace")
    rights, message = outcome(read_user_rights, ConfigError)
    if message is None:
        assert all(isinstance(text, str) for text in (*rights.targets, *rights.import_paths))
    else:
        assert str(path) in message
