"""Makes `clarion.v1` importable: generates the stubs into build/python if need be."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


def load() -> None:
    """Call before importing anything of clarion.v1."""
    out = REPOSITORY / "build" / "python"
    subprocess.run([str(HERE / "gen_stubs.sh"), str(out)], check=True)
    sys.path.insert(0, str(out))
