#!/usr/bin/env python3
"""Plants bugs at the seams, one after the other, and says which tests catch them.

Each tests/mutants/*.patch begins with lines `# what: ...` (the bug) and `# tests: NAME ...` (test
programs of which at least one has to fail, in the order in which they are tried). One that does not
apply, or not build, fails too. The sources are copied to build/mutants, so that the tree stays as it is.

usage: run.py SOURCE_DIR BUILD_DIR [PATCH ...]
"""

import pathlib
import re
import shutil
import subprocess
import sys
import time


class Broken(Exception):
    """The patch is of no use as it is."""


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
    """The test that fails; None: all pass. Raises Broken if the mutant does not build."""
    code, output = run(["./dev", "build", *tests], copy)
    if code != 0:
        raise Broken(f"does not build:\n{output[-3000:]}")
    for test in tests:
        code, _ = run(["ctest", "--test-dir", "build/dev", "-R", f"^{test}$", "--timeout", "300"],
                      copy)
        if code != 0:
            return test
    return None


def verdict(copy, patch, tests):
    """Whether the mutant was caught, and a word on it."""
    code, output = run(["patch", "-p1", "-i", str(patch)], copy)
    if code != 0:
        return False, f"BROKEN, does not apply:\n{output}"
    began = time.monotonic()
    try:
        caught = caught_by(copy, tests)
    except Broken as problem:
        return False, f"BROKEN, {problem}"
    finally:
        run(["patch", "-R", "-p1", "-i", str(patch)], copy)
    took = f"{time.monotonic() - began:.0f} s"
    if caught is None:
        return False, f"SURVIVED {', '.join(tests)} ({took})"
    return True, f"caught by {caught} ({took})"


def main():
    source = pathlib.Path(sys.argv[1]).resolve()
    copy = pathlib.Path(sys.argv[2]).resolve() / "mutants"
    chosen = [pathlib.Path(name).resolve() for name in sys.argv[3:]]
    patches = chosen or sorted((source / "tests" / "mutants").glob("*.patch"))
    failed = 0
    for patch in patches:
        what, tests = fields(patch)
        copy_sources(source, copy)
        caught, word = verdict(copy, patch, tests)
        print(f"{patch.stem}: {what}: {word}", flush=True)
        failed += not caught
    print(f"{len(patches) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
