"""What TensorFlow Serving serves: its models.config from a release, and telling a running server."""

import os
import time
from pathlib import Path

from configs.errors import ModelUnavailableError
from configs.settings import Settings
from serving.connect import ModelSource, call_policy, open_client, parse_server
from warehouse.store.records import ModelVersion, Release

CONFIG_FILE = "models.config"
_POLL_S = 0.2


def models_config(model_name: str, base_path: str, release: Release, *, also: int | None = None) -> str:
    """A ModelServerConfig as text: the versions of a release, with the labels stable, canary and shadow.

    Args:
        base_path: where the server finds the versions.
        also: a version to load that the release does not name yet.
    """
    versions = sorted({*release.versions, *([also] if also is not None else [])})
    labels = {"stable": release.stable, "canary": release.canary, "shadow": release.shadow}
    lines = ["model_config_list {", "  config {", f'    name: "{model_name}"', f'    base_path: "{base_path}"']
    lines.append('    model_platform: "tensorflow"')
    lines.append("    model_version_policy { specific {" + "".join(f" versions: {v}" for v in versions) + " } }")
    lines += [
        f'    version_labels {{ key: "{label}" value: {version} }}'
        for label, version in labels.items()
        if version is not None
    ]
    return "\n".join([*lines, "  }", "}", ""])


def publish(settings: Settings, release: Release, *, also: int | None = None) -> Path:
    """Writes models.config into the folder of models, whole or not at all; a server that polls it follows.

    A server that is reached by gRPC is told at once.

    Raises:
        ModelUnavailableError: that server does not take it.
    """
    name = settings.training.model_name
    base_path = settings.serving.models_path or str(settings.models_dir.resolve())
    text = models_config(name, f"{base_path}/{name}", release, also=also)
    path = settings.models_dir / CONFIG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{CONFIG_FILE}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    if settings.serving.server is not None and parse_server(settings.serving.server)[0] == "grpc":
        from serving.tensorflow_serving import reload_config

        reload_config(settings.serving.server, text, settings.serving.deadline_s)
    return path


def wait_until_served(settings: Settings, model: ModelVersion) -> None:
    """Returns when the server, if there is one, has loaded a version.

    Raises:
        ModelUnavailableError: it has not after `serving.max_load_s`.
    """
    if settings.serving.server is None:
        return
    source = ModelSource(
        model.model_name, model.model_version, Path(), settings.serving.server, 1, call_policy(settings.serving)
    )
    deadline = time.monotonic() + settings.serving.max_load_s
    while True:
        try:
            open_client(source).close()
            return
        except ModelUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
