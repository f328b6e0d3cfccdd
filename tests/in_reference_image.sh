#!/bin/bash
# Runs all tests in the reference image (the `test` stage of Dockerfile.pipeline). Called by `make test-reference`;
# arguments go on to pytest. ECG_MITDB_DIR, when set, is mounted read-only for the tests on MIT-BIH records.
set -euo pipefail
cd "$(dirname "$0")/.."
image=ecg-pipeline-test

stop() { echo "[test-reference] error: $*" >&2; exit 1; }

command -v docker >/dev/null || stop "there is no docker command. Install Docker Engine (or run \`make test\`, which needs none)."
if ! why="$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null)"; then
  stop "no Docker engine answers: ${why##*$'\n'} Start it, or let this user talk to it (group docker)."
fi
docker buildx version >/dev/null 2>&1 || stop "docker cannot use BuildKit: install its buildx plugin."

# pip's index on this machine, if it is not the usual one. It goes in as a secret: the image does not hold it.
index="${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}"
echo "[test-reference] building $image from Dockerfile.pipeline (minutes the first time, seconds after)"
start=$SECONDS
PIP_INDEX_URL="$index" DOCKER_BUILDKIT=1 docker build ${index:+--secret id=index,env=PIP_INDEX_URL} \
  --target test --tag "$image" --file Dockerfile.pipeline .
echo "[test-reference] built in $((SECONDS - start)) s; running the tests in it"

data=()
if [ -n "${ECG_MITDB_DIR:-}" ]; then
  [ -d "$ECG_MITDB_DIR" ] || stop "ECG_MITDB_DIR is $ECG_MITDB_DIR, which is no folder."
  data=(--volume "$(cd "$ECG_MITDB_DIR" && pwd):/mitdb:ro" --env ECG_MITDB_DIR=/mitdb)
fi
exec docker run --rm --init --shm-size 1g "${data[@]}" "$image" \
  python -m pytest -m "unit or integration or e2e" "$@"
