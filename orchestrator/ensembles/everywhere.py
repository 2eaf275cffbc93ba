"""A tracking server as a place that sweeps are read from: the runs of all its experiments, their artifacts, and a note on one."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.base.layout import PREDICTIONS
from orchestrator.base.stored_predictions import LARGEST
from orchestrator.stores.client import ClientStore
from orchestrator.stores.runs import StoredRun, UnavailableError, chunks

ARTIFACT = PREDICTIONS.name
EXPERIMENTS_A_CALL = 100
LONGEST = 2**20
"""Bytes of a description or configuration that are read."""

LONGEST_REASON = 250


class Everywhere(ClientStore):
    """The runs of all experiments of a store."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # one a file, in between our own lines

    def active(self, condition: str) -> list[StoredRun]:
        """The runs that meet an MLflow filter and are not deleted, the newest first.

        Raises:
            UnavailableError: the store does not answer.
        """
        runs = [
            run for some in chunks(self._experiments(), EXPERIMENTS_A_CALL) for run in self._search(some, condition)
        ]
        return sorted((run for run in runs if not run.deleted), key=lambda run: -(run.start_ms or 0))

    def download(self, run_id: str, folder: Path) -> str | None:
        """Copies the predictions of a run into a folder; returns why there are none, or none that is read.

        Raises:
            UnavailableError: the store does not answer.
        """
        try:
            with self._calls() as client:
                sizes = {file.path: file.file_size for file in client.list_artifacts(run_id)}
            if ARTIFACT not in sizes:
                return "the server has no predictions of it"
            if (sizes[ARTIFACT] or 0) > LARGEST:
                return f"its predictions have {sizes[ARTIFACT] / 2**20:,.0f} MB, more than the {LARGEST // 2**20} that are read"
            with self._calls() as client:
                client.download_artifacts(run_id, ARTIFACT, str(folder))
        except UnavailableError as error:
            self._check_answers(run_id)
            return f"its predictions cannot be brought ({str(error)[:LONGEST_REASON]})"
        return None

    def fetched(self, run_id: str, artifact: str, folder: Path) -> Path | None:
        """Copies a small artifact of a run into a folder that is made; None where it is not small, or cannot be brought.

        Raises:
            UnavailableError: the store does not answer.
        """
        above = artifact.rpartition("/")[0]
        try:
            with self._calls() as client:
                sizes = {file.path: file.file_size for file in client.list_artifacts(run_id, above or None)}
            if not 0 < (sizes.get(artifact) or 0) <= LONGEST:
                return None
            folder.mkdir()
            with self._calls() as client:
                return Path(client.download_artifacts(run_id, artifact, str(folder)))
        except UnavailableError:
            self._check_answers(run_id)
            return None

    def tags(self, run_id: str) -> dict[str, str]:
        """
        Raises:
            UnavailableError: the store does not answer.
        """
        with self._calls() as client:
            return dict(client.get_run(run_id).data.tags)

    def put_tag(self, run_id: str, key: str, text: str) -> None:
        """Puts a tag on a run.

        Raises:
            UnavailableError: the store does not take it.
        """
        with self._calls() as client:
            client.set_tag(run_id, key, text)

    def _check_answers(self, run_id: str) -> None:
        """Tells artifacts of one run that cannot be had, wherever they are said to be, from a store that is away.

        Raises:
            UnavailableError: the store does not answer.
        """
        with self._calls() as client:
            client.get_run(run_id)

    def _experiments(self) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            with self._calls() as client:
                page = client.search_experiments(page_token=token)  # deleted ones are not among them
            found += [str(one.experiment_id) for one in page]
            token = page.token
            if not token:
                return found
