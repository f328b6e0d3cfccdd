#!/bin/bash
# Builds the images, brings the stack of docker-compose.yml up beside whatever else runs here (a name, ports and secrets
# of its own), uses it, hurts it, and takes it down. Called by `make compose-test`; arguments go on to pytest.
# What the containers logged, and what each fault did, is in build/compose-test afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=compose-test
. tests/images.sh

require_docker
docker compose version >/dev/null 2>&1 || stop "docker has no compose plugin: install it."
build_image ecg-platform/pipeline:test Dockerfile.pipeline pipeline
build_image ecg-platform/api:test Dockerfile.api api
rm -rf build/compose-test
exec .venv/bin/python -m pytest -m stack tests/stack "$@"
