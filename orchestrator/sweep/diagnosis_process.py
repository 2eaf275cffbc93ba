"""Draws the figures of trials: `python -m orchestrator.sweep.diagnosis_process <sweep_folder> --parent-pid N [--rights JSON]`.

A process of its own, so that the driver imports neither torch nor what draws. A line on its input names a trial, and a line of
JSON on its output says that its page is written, or why there is none; an empty line ends it, and it ends with the driver.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import threading
from pathlib import Path
from typing import NoReturn

from orchestrator.base.errors import OrchestratorError
from orchestrator.base.layout import diagnosis_page
from orchestrator.base.rights import Rights
from orchestrator.config.rights import spelled
from orchestrator.sweep.report_process import listen, write_published


def main(arguments: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(description="Draw the figures of trials for their sweep's driver.")
    parser.add_argument("sweep_folder", type=Path)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--rights", type=json.loads, default=[])
    options = parser.parse_args(arguments)
    rights = Rights(*map(tuple, options.rights))
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library may print
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(options.parent_pid, names), daemon=True).start()
    while name := names.get():
        answer = json.dumps({"trial": int(name), "error": write(options.sweep_folder, int(name), rights)})
        os.write(out, f"{answer}\n".encode())
    os._exit(0)  # at once: nothing is left to be written


def write(folder: Path, index: int, rights: Rights) -> str | None:
    """Writes the page of a trial in `published/`, whole or not at all; why it could not, where it could not."""
    from orchestrator.diagnosis.page import network_page
    from orchestrator.diagnosis.subjects import of_trial
    from orchestrator.training.diagnosis.study import diagnosed

    def page() -> str:
        named = of_trial(f"{folder.name}/{index}", spelled(rights), runs_dir=folder.parent)
        with named.built() as subject:
            return network_page(named, diagnosed(subject))

    try:
        write_published(folder, diagnosis_page(index), page)
    except (OrchestratorError, OSError, ValueError) as error:
        return str(error)
    except Exception as error:  # the network may be of the user's own, and its trial has ended well
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main()
