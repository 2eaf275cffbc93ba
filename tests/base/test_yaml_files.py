"""Reading what a user wrote: limits, and the line on which something stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.base.errors import ConfigError
from orchestrator.base.yaml_files import line_of, read


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "some.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-4", 1e-4), ("a: 5.0e-4", 5e-4), ("a: 1", 1), ("a: on", True), ("a: 2026-01-01", "2026-01-01"),
        ("a: .inf", float("inf")),
        ("a: '1e-4'", "1e-4"), ("a:", None), ("a: -2E+3", -2000.0), ("a: 1e5x", "1e5x"),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, text: str, value: Any) -> None:
    assert read(written(tmp_path, text)) == {"a": value}


def test_byte_order_mark_windows_line_ends_and_emptiness(tmp_path: Path) -> None:
    assert read(written(tmp_path, "\ufeffa: 1\r\nb: 2\r\n")) == {"a": 1, "b": 2}
    assert read(written(tmp_path, "# nothing\n")) == {}


def test_harmless_aliases_are_fine(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a: &x [1, 2]\nb: *x\n")) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: 1\na: 2\n", r"some\.yaml:2:1: has the key a twice"),
        ("a:\n  b: 1\n  b: 2\n", r":3:3: has the key b twice"),
        ("a:\n\tb: 1\n", r":2:1: is not YAML: .*spaces, not tabs"),
        ("a: [1\n", "is not YAML"),
        ("- 1\n", "must hold a mapping"),
        ("a: &a [*a]\n", "an alias refers to what holds it"),
        (b"a: \xff\n", "is not UTF-8"),
        (b"#" * 1_000_001, "is 1,000,001 bytes long"),
        ("a: !!python/object:os.system x\n", r":1:4: has the tag python/object:os\.system, which means nothing here"),
        ("[" * 5000, "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
    ],
    ids=range(11),
)
def test_refused(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(written(tmp_path, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "nope.yaml")


def test_line_of_nested_and_dotted_keys(tmp_path: Path) -> None:
    path = written(tmp_path, "# first\nmodel:\n  width: 3\nspace:\n  model.width: 'choice(1, 2)'\n")
    assert line_of(path, ["model", "width"]) == 3
    assert line_of(path, ["space", "model", "width"]) == 5
    assert line_of(path, ["model"]) == 2
    assert line_of(path, ["model", "depth"]) is None
    assert line_of(tmp_path / "nope.yaml", ["a"]) is None
