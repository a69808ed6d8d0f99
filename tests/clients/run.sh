#!/usr/bin/env bash
# run.sh BINARY_DIR: clients written by others against the real clarion. Python with grpcio and stubs
# generated from our protos publishes; npm's `ws` follows.
set -euo pipefail
binaries=$(cd "${1:?usage: run.sh BINARY_DIR}" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
export CLARION_STUBS=$binaries/python
"$here/../../service/client/sample_agent/gen_stubs.sh" "$CLARION_STUBS"
if [[ ! -d node_modules/ws || package.json -nt node_modules ]]; then
  npm install --no-package-lock --no-audit --no-fund --loglevel=error
  touch node_modules
fi
node readme_test.mjs "$binaries"
node ws_client.mjs "$binaries"
