"""`python -m orchestrator.stores.copy_schema`: writes `mlflow_schema.sql` anew, from the tables that the installed MLflow makes.

With the copy a first launch does not wait for MLflow to be imported and to go through its migrations. To be run when the pinned
version of MLflow changes; a test compares the copy with what MLflow makes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from orchestrator.base.layout import MLFLOW_DATABASE
from orchestrator.stores.schema import SCHEMA, heading, let_mlflow_create

LICENCE = (
    "-- MLflow is under the Apache License 2.0. Do not edit: orchestrator/stores/copy_schema.py writes this file.\n"
)


def schema_of_mlflow() -> str:
    """The SQL that makes an empty store of the installed MLflow, with its experiment 0; without times and addresses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MLFLOW_DATABASE)
        let_mlflow_create(path)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("UPDATE experiments SET artifact_location = '', creation_time = 0, last_update_time = 0")
            lines = [" ".join(line.split()) if line.startswith("CREATE") else line for line in db.iterdump()]
    return heading() + LICENCE + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    SCHEMA.write_text(schema_of_mlflow())
