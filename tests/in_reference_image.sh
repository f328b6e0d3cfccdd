#!/bin/bash
# Runs all tests in the reference image (the `test` stage of Dockerfile.pipeline). Called by `make test-reference`;
# arguments go on to pytest. ECG_MITDB_DIR, when set, is mounted read-only for the tests on MIT-BIH records.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=test-reference image=ecg-pipeline-test
. tests/images.sh

require_docker
build_image "$image" Dockerfile.pipeline test

data=()
if [ -n "${ECG_MITDB_DIR:-}" ]; then
  [ -d "$ECG_MITDB_DIR" ] || stop "ECG_MITDB_DIR is $ECG_MITDB_DIR, which is no folder."
  data=(--volume "$(cd "$ECG_MITDB_DIR" && pwd):/mitdb:ro" --env ECG_MITDB_DIR=/mitdb)
fi
exec docker run --rm --init --shm-size 1g "${data[@]}" "$image" \
  python -m pytest -m "unit or integration or e2e" "$@"
