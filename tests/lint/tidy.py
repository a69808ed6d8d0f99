#!/usr/bin/env python3
"""Runs clang-tidy, with clang's own warnings, on one file of compile_commands.json.

The commands are g++'s: what only g++ knows (its precompiled headers, some warnings) is taken out.
"""
import json
import os
import shlex
import subprocess
import sys

DROP = {"-Wno-interference-size", "-Wno-maybe-uninitialized", "-Winvalid-pch", "-fcoroutines"}


def main() -> int:
    database, source = sys.argv[1], os.path.abspath(sys.argv[2])
    entry = next((e for e in json.load(open(database)) if e["file"] == source), None)
    if entry is None:
        return 0  # not built here
    words, flags, skip = shlex.split(entry["command"]), [], False
    compiler = next(i for i, w in enumerate(words) if os.path.basename(w).startswith(("c++", "g++")))
    for word in words[compiler + 1:]:
        if skip:
            skip = False
        elif word in ("-o", "-c"):
            skip = word == "-o"
        elif word == source or word in DROP:
            pass
        elif word.startswith("-include"):
            skip = word == "-include"
        else:
            flags.append(word)
    command = ["clang-tidy-19", "--quiet", "--warnings-as-errors=*", source, "--", "clang++-19",
               *flags, "-Wthread-safety", "-Wno-unused-command-line-argument"]
    result = subprocess.run(command, cwd=entry["directory"], capture_output=True, text=True)
    if result.returncode:
        print(result.stdout + result.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
