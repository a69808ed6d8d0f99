#!/usr/bin/env bash
# run.sh BINARY_DIR: the page in Debian's Chromium, against the real clarion and the sample agent.
# Screenshots go to BINARY_DIR/screenshots.
set -euo pipefail
binaries=$(cd "${1:?usage: run.sh BINARY_DIR}" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
export CLARION_STUBS=$binaries/python
"$here/../../service/client/sample_agent/gen_stubs.sh" "$CLARION_STUBS"
if [[ ! -d node_modules/playwright-core || package.json -nt node_modules ]]; then
  npm install --no-package-lock --no-audit --no-fund --loglevel=error
  touch node_modules
fi
exec node page_test.mjs "$binaries"
