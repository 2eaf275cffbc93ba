"""`python -m orchestrator` is the command `orchestrator`."""

import sys

if not sys.flags.safe_path and not __file__.startswith(f"{sys.path[0]}/"):
    del sys.path[0]  # the current folder, where a `yaml.py` of somebody's may lie

from orchestrator.cli import main

sys.exit(main())
