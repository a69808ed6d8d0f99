#!/usr/bin/env bash
# run.sh SCRIPT [ARG ...]: an npm script of this folder, after what it needs was installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p node_modules
(
  flock 9
  if [[ ! -e node_modules/.installed || package.json -nt node_modules/.installed ]]; then
    npm install --no-package-lock --no-audit --no-fund --loglevel=error
    touch node_modules/.installed
  fi
) 9>node_modules/.lock
exec npm run --silent "$@"
