#!/usr/bin/env python3
"""Checks that each folder includes only what stands above it.

proto < telemetry < service | gateway < clarion < tests; service and gateway never include each
other. Inside service/, a folder includes those before it in INSIDE_SERVICE; inside gateway/ likewise.
"""
import pathlib
import re
import subprocess
import sys

ALLOWED = {
    "proto": {"proto"},
    "telemetry": {"proto", "telemetry"},
    "service": {"proto", "telemetry", "service"},
    "gateway": {"proto", "telemetry", "gateway"},
    "clarion": {"proto", "telemetry", "service", "gateway", "clarion"},
    "tests": {"proto", "telemetry", "service", "gateway", "clarion", "tests"},
}
# Inside a half: what each folder may use besides itself.
INSIDE = {
    "service/log": set(),
    "service/delivery": {"service/log"},
    "service/runs": {"service/log", "service/delivery"},
    "service/front": {"service/log", "service/delivery", "service/runs"},
    "service/client": set(),
    "service/ctl": {"service/client"},
    "gateway/auth": set(),
    "gateway/link": set(),
    "gateway/hub": set(),
    "gateway/http": {"gateway/auth"},
    "gateway/connection": {"gateway/auth", "gateway/hub", "gateway/http"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
# Third-party headers that are written with quotes, and generated code.
FOREIGN = re.compile(r"^(absl|boost|clarion/v1|google|grpc|grpcpp|rocksdb|spdlog|CLI|jwt|gtest|gmock|"
                     r"prometheus|openssl|nlohmann)(/|\.h)")


def main() -> int:
    files = subprocess.run(["git", "ls-files", "*.h", "*.cc"], capture_output=True, text=True,
                           check=True).stdout.split()
    wrong = []
    for name in files:
        path = pathlib.PurePosixPath(name)
        top, inside = path.parts[0], "/".join(path.parts[:2])
        is_test = path.stem.endswith("_test") or "fake" in path.stem or "testing" in path.stem
        for number, line in enumerate(open(name, encoding="utf-8"), 1):
            match = INCLUDE.match(line)
            if not match or FOREIGN.match(match.group(1)):
                continue
            target = pathlib.PurePosixPath(match.group(1))
            if not pathlib.Path(target).exists():
                continue  # generated
            if target.parts[0] not in ALLOWED.get(top, set()) and not (is_test and target.parts[0] == "tests"):
                wrong.append(f"{name}:{number}: {top}/ may not include {target}")
                continue
            target_inside = "/".join(target.parts[:2])
            if (not is_test and inside in INSIDE and target_inside in INSIDE and target_inside != inside
                    and target_inside not in INSIDE[inside]):
                wrong.append(f"{name}:{number}: {inside}/ may not include {target}")
    print("\n".join(wrong) if wrong else f"{len(files)} files: every include goes upwards")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
