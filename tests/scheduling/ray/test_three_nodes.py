"""Sweeps on a cluster of several nodes, as a user launches them: each driver is a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.base.errors import NotReadyError
from orchestrator.base.layout import JOURNAL
from orchestrator.base.records import NODE_LOST
from orchestrator.journal.events import Retrying, SweepOpened, Terminal
from orchestrator.journal.file import Entry, Reader

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TOKEN = "a-token-of-the-tests-0123456789abcdef"
SMALL = [
    *("data=synthetic", "model=mlp", "model.width=12", "batch_size=16", "optimizer.lr=tag(log,interval(1e-2,1))"),
    *("tracking=none", "cluster=ray"),
]
PATIENCE_S = 300.0


@dataclass
class Nodes:
    """A cluster in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    head: int
    pids: dict[str, int]

    def add(self, **node: Any) -> int:
        """Starts one more node; returns the process whose death is that of the node."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(node), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def start_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Nodes]]:
    """Starts clusters; at the end all of their processes are gone."""
    started: list[subprocess.Popen[str]] = []

    def start(*nodes: dict[str, Any], token: str | None = None) -> Nodes:
        environment = clean_environment(tmp_path_factory.mktemp("home"), token)
        environment["RAY_AUTH_MODE"] = "token" if token else "disabled"
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "180"}
        environment["RAY_worker_niceness"] = "0"  # 15 by default: behind the tests of the other process
        command = [sys.executable, str(HERE / "cluster_process.py"), json.dumps(nodes)]
        errors = tmp_path_factory.mktemp("cluster") / "errors.txt"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
        started.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line, errors.read_text()
        told = json.loads(line)
        return Nodes(process, told["address"], told["head"], told["nodes"])

    yield start
    for process in started:
        below = psutil.Process(process.pid).children(recursive=True)
        process.communicate("", timeout=60)
        for left in below:
            if left.is_running():
                left.kill()


def clean_environment(home: Path, token: str | None) -> dict[str, str]:
    """This process' environment without what Ray has set in it; `token` lies where Ray looks for one."""
    if token:
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").write_text(token)
    environment = {key: value for key, value in os.environ.items() if not key.upper().startswith("RAY")}
    return environment | {"HOME": str(home)}


@pytest.fixture(scope="module")
def nodes(start_nodes: Callable[..., Nodes]) -> Nodes:
    """A cluster that asks for no token: the head trains nothing, one node has two GPUs, by its own account."""
    return start_nodes(
        {"num_cpus": 0}, {"num_cpus": 1, "num_gpus": 2, "node_name": "one"}, {"num_cpus": 1, "node_name": "two"}
    )


@pytest.fixture(scope="module")
def guarded(start_nodes: Callable[..., Nodes]) -> Nodes:
    """A cluster of one node that asks for a token."""
    return start_nodes({"num_cpus": 1}, token=TOKEN)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a sweep in a process of its own, in `tmp_path`; `token` lies on the driver's machine."""
    drivers = []

    def start(nodes: Nodes, *overrides: str, token: str | None = None) -> subprocess.Popen[str]:
        home = tmp_path / f"home-{len(drivers)}"
        command = [sys.executable, "-m", "orchestrator", "launch", *SMALL]
        command += [f"cluster.address={nodes.address}", *overrides]
        driver = subprocess.Popen(
            command,
            env=clean_environment(home, token),
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        drivers.append(driver)
        return driver

    yield start
    for driver in drivers:
        driver.kill()
        driver.wait()
        if driver.stdout:
            driver.stdout.close()


def kill_tree(pid: int) -> None:
    """Kills a process and all below it, as when a machine dies."""
    process = psutil.Process(pid)
    for victim in [process, *process.children(recursive=True)]:
        victim.kill()


def ended(driver: subprocess.Popen[str]) -> tuple[int, str]:
    printed, _ = driver.communicate(timeout=PATIENCE_S)
    return driver.returncode, printed


def events_in(folder: Path) -> list[Entry]:
    paths = list(folder.glob(f"runs/*/{JOURNAL}"))
    if not paths:
        return []
    try:
        with contextlib.closing(Reader(paths[0])) as reader:
            return list(reader.events())
    except NotReadyError as error:
        if "has not begun" not in str(error):
            raise
        return []  # its driver is just making it


def wait_for(folder: Path, kind: str, count: int, driver: subprocess.Popen[str]) -> None:
    """Waits until the journal has so many events of a kind."""
    deadline = time.monotonic() + PATIENCE_S
    while sum(event.kind == kind for event in events_in(folder)) < count:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline, f"no {count} {kind} events"
        time.sleep(0.2)


def test_a_sweep_survives_the_loss_of_a_node_and_charges_nobody(
    nodes: Nodes, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """With a token that lies on the driver's machine and that the cluster knows nothing of, and by fractions of GPUs."""
    doomed = nodes.add(num_cpus=1, num_gpus=2, node_name="doomed")
    driver = launch(
        nodes,
        "trials=6",
        "epochs=200",
        "max_retries=0",
        "report_every_s=0.2",
        "precision=fp32",
        "device=cpu",
        "gpus_per_trial=0.6",
        "cpus_per_trial=0.1",
        token=TOKEN,
    )
    wait_for(tmp_path, "reported", 8, driver)
    kill_tree(doomed)
    code, printed = ended(driver)
    assert code == 0, printed
    assert "4 at a time" in printed, "two GPUs of a node hold two trials of 0.6 each, not three"
    events = [entry.event for entry in events_in(tmp_path)]
    assert Counter(event.state for event in events if isinstance(event, Terminal)) == {"completed": 6}
    retried = [event.reason for event in events if isinstance(event, Retrying)]
    assert retried
    assert set(retried) == {NODE_LOST}
    opened = events[0]
    assert isinstance(opened, SweepOpened)
    assert opened.environment["precision"] == "fp32"
    (kind,) = opened.environment["computes_on"]
    assert kind.startswith("cpu ")


@pytest.fixture
def island(nodes: Nodes, tmp_path: Path) -> Iterator[None]:
    """One more node, which sees another, empty folder where the others see runs_dir."""
    (tmp_path / "runs").mkdir()
    alone = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespaces")
    ray = f"{sys.executable} -m ray.scripts.scripts start --address={nodes.address} --num-cpus=1 --node-name=island"
    script = f"mount -t tmpfs none {tmp_path / 'runs'} && exec {ray} --block --disable-usage-stats"
    environment = clean_environment(tmp_path / "home", None) | {"RAY_AUTH_MODE": "disabled"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*alone, "sh", "-c", script], env=environment, **quiet)  # type: ignore[call-overload]
    try:
        wait_for_node(nodes, "island")
        yield
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        for left in [*below, process]:
            left.kill()
        process.wait()


def wait_for_node(nodes: Nodes, name: str) -> None:
    from ray._raylet import GcsClient

    deadline = time.monotonic() + PATIENCE_S
    environment = os.environ.pop("RAY_AUTH_MODE", None)
    try:
        while name not in {node.node_name for node in GcsClient(address=nodes.address).get_all_node_info().values()}:
            assert time.monotonic() < deadline, f"node {name} does not join"
            time.sleep(0.5)
    finally:
        if environment:
            os.environ["RAY_AUTH_MODE"] = environment


@pytest.mark.usefixtures("island")
def test_a_node_that_does_not_share_runs_dir_is_named(
    nodes: Nodes, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    code, printed = ended(launch(nodes, "trials=2", "epochs=1", "device=cpu"))
    assert code == 3, printed
    assert "node island" in printed
    assert "node one" not in printed
    assert "name one on a shared file system with runs_dir=..." in " ".join(printed.split())
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_gpu_that_cuda_cannot_use_is_refused_before_anything_is_created(
    nodes: Nodes, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    code, printed = ended(launch(nodes, "trials=2", "epochs=1", "gpus_per_trial=0.6"))
    assert code == 3, printed
    assert "node one" in printed
    assert "cuda:0 cannot be used" in printed
    assert "node two" not in printed, "it has no GPU, so no trial would run there"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("token", "told"), [(None, "asks for a token"), ("another-token-0123456789abcdef", "refuses this machine's token")]
)
def test_a_cluster_that_asks_for_a_token_is_told_with_what_to_do(
    guarded: Nodes, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path, token: str | None, told: str
) -> None:
    code, printed = ended(launch(guarded, "trials=2", "epochs=1", token=token))
    assert code == 3, printed
    assert told in printed
    assert "copy ~/.ray/auth_token from its head" in " ".join(printed.split())
    assert not (tmp_path / "runs").exists()


def test_a_head_that_dies_ends_the_driver_with_the_command_that_resumes(
    guarded: Nodes, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The last of this file: the cluster is gone after it. That anything is reported shows that the token was sent."""
    driver = launch(guarded, "trials=4", "epochs=100000", "report_every_s=0.2", token=TOKEN)
    wait_for(tmp_path, "reported", 2, driver)
    os.kill(guarded.head, signal.SIGKILL)
    code, printed = ended(driver)
    assert code == 5, printed
    assert f"the head of the Ray cluster at {guarded.address} is gone" in printed
    assert "orchestrator resume sweep-" in printed
