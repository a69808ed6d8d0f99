#!/usr/bin/env bash
# What `./dev run` starts: clarion on the embedded log in development mode, and the sample agent.
# run.sh BINARY_DIR [--port N] [ARG ...]: N is the page's port (7710); the ARGs go to clarion.
set -euo pipefail
binaries=$(cd "${1:?usage: run.sh BINARY_DIR [--port N] [ARG ...]}" && pwd)
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../../.." && pwd)

port=7710
arguments=()
while (($#)); do
  case $1 in
    --port) port=${2:?--port needs a number}; shift 2 ;;
    --port=*) port=${1#--port=}; shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done
# The four ports lie together, so that a second clarion needs one number: 7710 means 7700, 7701, 7710, 7711.
service=127.0.0.1:$((port - 10))
admin=127.0.0.1:$((port - 9))

# The log stays from one start to the next, and the token secret that --dev keeps beside it.
state=$repository/build/run/$port
mkdir -p "$state"

# In a process group of its own: Ctrl-C stops the agent, and clarion only after it.
set -m
"$binaries/clarion/clarion" --dev --log-url "embedded:$state" \
  --listen "$service" --admin-listen "$admin" \
  --gateway-listen "127.0.0.1:$port" --gateway-admin-listen "127.0.0.1:$((port + 1))" \
  "${arguments[@]}" &
clarion=$!
set +m
agent=
stop() {
  trap - EXIT INT TERM
  # The agent first: it tells its user that the run was cancelled.
  if [[ -n $agent ]]; then kill -TERM "$agent" 2>/dev/null || true; wait "$agent" || true; fi
  kill -TERM "$clarion" 2>/dev/null || true
  wait "$clarion" || true
}
trap stop EXIT
trap 'stop; exit 130' INT
trap 'stop; exit 143' TERM

ready() { # HOST:PORT
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || return 1
  printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&3
  read -r _ status _ <&3 || status=0
  exec 3>&-
  [[ $status == 200 ]]
} 2>/dev/null
until ready "$admin" && ready "127.0.0.1:$((port + 1))"; do
  if ! kill -0 "$clarion" 2>/dev/null; then
    wait "$clarion" && exit 1 || exit $?
  fi
  sleep 0.1
done

cat <<TEXT

  Open  http://127.0.0.1:$port/  and sign in as demo.
  An agent answers questions about this folder as soon as you are there.
  Type a question here and press Enter to ask one of your own. Ctrl-C ends.

TEXT
# Without this, a background program of a script reads nothing.
exec 4<&0
/usr/bin/python3 "$here/sample_agent.py" --service "$service" --user demo --folder "$repository" --serve <&4 &
agent=$!
# Whichever ends first ends both.
wait -n "$clarion" "$agent" || true
