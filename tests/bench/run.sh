#!/usr/bin/env bash
# run.sh BINARY_DIR [NAME ...]: every connection takes a descriptor at both ends.
set -euo pipefail
binaries=$1
shift
ulimit -n "$(ulimit -Hn)"
exec "$binaries/tests/bench/clarion_bench" "$@"
