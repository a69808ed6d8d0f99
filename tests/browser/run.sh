#!/usr/bin/env bash
# run.sh BINARY_DIR [TEST ...]: the console and the client in Debian's Chromium, against the real programs.
# Screenshots go to BINARY_DIR/screenshots.
set -euo pipefail
binaries=$(cd "${1:?usage: run.sh BINARY_DIR [TEST ...]}" && pwd)
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
export CLARION_STUBS=$binaries/python
"$here/../../service/client/sample_agent/gen_stubs.sh" "$CLARION_STUBS"
if [[ ! -d node_modules/playwright-core || package.json -nt node_modules ]]; then
  npm install --no-package-lock --no-audit --no-fund --loglevel=error
  touch node_modules
fi
if (($# == 0)); then set -- page visit recovery showcase load client; fi
failed=()
for name; do
  echo "== $name"
  node "${name}_test.mjs" "$binaries" || failed+=("$name")
done
if ((${#failed[@]} > 0)); then
  echo "failed: ${failed[*]}"
  exit 1
fi
