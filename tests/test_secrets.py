"""A password on the command line is found afterwards in no file, no row, no message and no list of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestrator.base.secrets import take_out
from orchestrator.cli import main
from tests.chaos.server import Server

PLANTED = "Xq7.planted/p@ss word"
FORMS = [form.encode() for form in ("Xq7.planted", "Xq7%2Eplanted", "ss word")]


def command_lines() -> bytes:
    """Those of all processes of this user."""
    found = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += path.read_bytes() + b"\n"
        except OSError:
            continue
    return found


def holds(contents: bytes) -> list[bytes]:
    return [form for form in FORMS if form in contents]


@pytest.mark.slow
def test_a_password_of_the_tracking_address_reaches_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    seen: list[bytes] = []
    drivers: set[bytes] = set()  # what was watched, so that an empty list says something
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for line in command_lines().split(b"\n"):
                if b"launch" in line and b"name=planted" in line:
                    drivers.add(line)
                if holds(line):
                    seen.append(line)

    try:
        server.start()
        server.warm_up()
        work = tmp_path / "work"
        work.mkdir()
        address = server.uri.replace("//", f"//researcher:{PLANTED}@")
        typed = ["tracking=server", f"tracking.uri={address}", "trials=2", "epochs=1", "data=synthetic", "name=planted"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # Started without a shell; a moment later the program has begun again under a command line without the password.
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "launch", *typed],
            cwd=work,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        assert b"MLFLOW_TRACKING_PASSWORD" in first
        assert child.stdout.readline()  # of the program that began again
        watcher = threading.Thread(target=watch)
        watcher.start()
        said = first + child.stdout.read()
        child.stdout.close()
        assert child.wait() == 0, said.decode()
        done.set()
        watcher.join()
        assert b"verified" in said
        assert not holds(said)
        assert drivers
        assert not seen
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 10
        assert [path for path in files if holds(path.read_bytes())] == []
    finally:
        done.set()
        server.close()


BAD = [
    ["launch", "trackng.uri={}"],
    ["launch", "tracking=server", "tracking.url={}"],
    ["launch", "tracking=servr", "tracking.uri={}"],
    ["launch", "tracking=local", "tracking.uri={}"],
    ["launch", "--plan", "tracking=server", "+tracking.ury={}"],
    ["launch", "--plan", "tracking=server", "tracking.uri={}", "optimizer.lr=-1"],
    ["launch", "tracking=server", "tracking.uri=[{}]"],
    ["launch", "--plan", "tracking=server", "tracking.uri={},{}"],
    ["launch", "--plan", "tracking=server", "tracking.uri={}", "epochs=x"],
    ["launch", "name={}"],
    ["launch", "--uri={}"],
    ["launch", "--uri", "{}"],
    ["train", "tracking.uri={}"],
    ["train", "from={}"],
    ["resume", "{}"],
    ["resume", "digits", "tracking.uri={}"],
    ["status", "{}"],
    ["show", "{}/7"],
    ["delete", "{}"],
    ["list", "{}"],
    ["sync", "{}"],
    ["{}"],
    ["dashboard", "--port", "{}"],
    ["launch", "tracking=server", "tracking.url=user:Xq7.planted@localhost:5999"],
    ["launch", "tracking=server", "tracking.url=http//user:Xq7.planted@localhost:5999"],
    *(["launch", "tracking=server", f"tracking.uri=http://localhost:5999/{x}"] for x in
      ("?pass=Xq7.planted", "?jwt=Xq7.planted", "#Xq7.planted", "?a=1&b=Xq7.planted", "?Xq7.planted")),
    *(["launch", "tracking=server", f"tracking.{key}=Xq7.planted"] for key in ("passwort", "pass", "headers", "user", "jwt")),
    *(["launch", option, "Xq7.planted"] for option in ("--password", "--token", "--api-key", "-pw", "--pass")),
    ["dashboard", "--uri", "http://127.0.0.1:1/?pass=Xq7.planted"],
]  # fmt: skip
ADDRESSES = [
    f"http://researcher:{PLANTED}@127.0.0.1:1",
    f"https://{PLANTED}@127.0.0.1:1/x",
    f"postgresql://u:{PLANTED}@127.0.0.1/mlflow",
    "http://127.0.0.1:1/?token=Xq7.planted",
    "http://researcher:Xq7%2Eplanted@127.0.0.1:1",
]


def test_a_path_with_odd_letters_is_not_touched() -> None:
    arguments = ["tracking.uri=sqlite:////tmp/a?b#c=d.db", "model.passes=3", "name=a?b#c", "tracking.experiment=a#b"]
    assert take_out(arguments) == arguments


@pytest.mark.parametrize(("row", "arguments"), list(enumerate(BAD)), ids=[" ".join(arguments) for arguments in BAD])
def test_no_refusal_shows_it(
    row: int, arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    address = ADDRESSES[row % len(ADDRESSES)]
    code = main([argument.format(address, address) for argument in arguments])
    said = "".join(capfd.readouterr())
    assert code in (2, 3), said
    assert said.strip()
    assert not holds(said.encode()), said
    assert list(tmp_path.iterdir()) == []
