# Sourced by the scripts that build images: `build_image NAME DOCKERFILE TARGET`. `tag` names the caller in messages.

stop() { echo "[$tag] error: $*" >&2; exit 1; }

# pip's index on this machine, if it is not the usual one. It goes in as a secret: the image does not hold it.
index="${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}"

require_docker() {
  local why
  command -v docker >/dev/null || stop "there is no docker command. Install Docker Engine (or run \`make test\`, which needs none)."
  if ! why="$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null)"; then
    stop "no Docker engine answers: ${why##*$'\n'} Start it, or let this user talk to it (group docker)."
  fi
  docker buildx version >/dev/null 2>&1 || stop "docker cannot use BuildKit: install its buildx plugin."
}

build_image() { # NAME DOCKERFILE TARGET
  local start=$SECONDS
  echo "[$tag] building $1 from $2 (minutes the first time, seconds after)"
  PIP_INDEX_URL="$index" DOCKER_BUILDKIT=1 docker build ${index:+--secret id=index,env=PIP_INDEX_URL} \
    --target "$3" --tag "$1" --file "$2" .
  echo "[$tag] built $1 in $((SECONDS - start)) s"
}
