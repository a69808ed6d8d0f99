#!/usr/bin/env bash
# Generates the Python stubs of the contract into DIRECTORY, if they are older than the protos:
# gen_stubs.sh DIRECTORY. Needs Debian's protobuf-compiler and protobuf-compiler-grpc.
set -euo pipefail
out=${1:?usage: gen_stubs.sh DIRECTORY}
protos=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../proto" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Two that start at once must not read each other's half-written files.
exec 9>"$out/.lock"
flock 9
stamp=$out/.generated
if [[ -f $stamp && -z $(find "$protos/clarion" "${BASH_SOURCE[0]}" -newer "$stamp") ]]; then exit 0; fi
cd "$protos"
protoc -I . --python_out="$out" --grpc_python_out="$out" \
  --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" clarion/v1/*.proto
touch "$stamp"
