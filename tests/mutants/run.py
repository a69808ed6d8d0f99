#!/usr/bin/env python3
"""Plants bugs at the seams, one after the other, and says which tests catch them.

Each tests/mutants/*.patch begins with lines `# what: ...` (the bug) and `# tests: NAME ...` (test
programs of which at least one has to fail, in the order in which they are tried). The sources are
copied to build/mutants, so that the tree stays as it is.

usage: run.py SOURCE_DIR BUILD_DIR [PATCH ...]
"""

import pathlib
import re
import shutil
import subprocess
import sys
import time


def fields(patch):
    text = patch.read_text()
    what = re.search(r"^# what: (.*)$", text, re.M)
    tests = re.search(r"^# tests: (.*)$", text, re.M)
    if not what or not tests:
        raise SystemExit(f"{patch}: needs `# what:` and `# tests:`")
    return what.group(1), tests.group(1).split()


def run(command, cwd, timeout=None):
    try:
        done = subprocess.run(command, cwd=cwd, timeout=timeout, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return None, "time is over"


def copy_sources(source, copy):
    """Only what changed, so that builds after the first are short."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, check=True,
                            stdout=subprocess.PIPE).stdout.decode().split("\0")
    for name in filter(None, listed):
        here, there = source / name, copy / name
        if not here.is_file():
            continue
        if there.is_file() and there.read_bytes() == here.read_bytes():
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(here, there)
        shutil.copymode(here, there)


def caught_by(copy, tests):
    """The test that fails; None: all pass. Raises if the mutant does not build."""
    code, output = run(["./dev", "build", *tests], copy)
    if code != 0:
        raise RuntimeError(f"does not build:\n{output[-3000:]}")
    for test in tests:
        code, _ = run(["ctest", "--test-dir", "build/dev", "-R", f"^{test}$", "--timeout", "300"],
                      copy)
        if code != 0:
            return test
    return None


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    copy = pathlib.Path(sys.argv[2]).resolve() / "mutants"
    chosen = [pathlib.Path(name).resolve() for name in sys.argv[3:]]
    patches = chosen or sorted((source / "tests" / "mutants").glob("*.patch"))
    survivors = []
    for patch in patches:
        what, tests = fields(patch)
        copy_sources(source, copy)
        code, output = run(["patch", "-p1", "-i", str(patch)], copy)
        if code != 0:
            raise SystemExit(f"{patch.name} does not apply any more:\n{output}")
        began = time.monotonic()
        try:
            caught = caught_by(copy, tests)
        except RuntimeError as problem:
            raise SystemExit(f"{patch.name} {problem}") from problem
        finally:
            run(["patch", "-R", "-p1", "-i", str(patch)], copy)
        took = f"{time.monotonic() - began:.0f} s"
        if caught:
            print(f"{patch.stem}: caught by {caught} ({took}): {what}", flush=True)
        else:
            print(f"{patch.stem}: SURVIVED {', '.join(tests)} ({took}): {what}", flush=True)
            survivors.append(patch.stem)
    print(f"{len(patches) - len(survivors)} passed, {len(survivors)} failed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
