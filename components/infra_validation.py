"""Whether a model can be served, found out in a fresh process before it may be pushed.

TFX's InfraValidator starts a model server in Docker and asks it whether it could load the model. This does the same job
where there is no Docker, and asks more (`serving.validation`). Its output is InfraValidator's artifact, so the Pusher
treats it alike: it pushes a blessed copy of the model, with the warm-up requests in it, or nothing.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import path_utils

REPORT_FILE = "report.json"  # in the blessing's folder: serving.validation's report
OUTPUT_FILE = "output.txt"  # what the process had to say

_ROOT = Path(__file__).parent.parent


@component
def ServingCheck(  # noqa: N802 (named as TFX's components are)
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    split: Parameter[str],
    model_name: Parameter[str],
    max_load_s: Parameter[float],
    max_latency_ms: Parameter[float],
    windows: Parameter[int],
    validator: Parameter[str],
) -> None:
    """Copies the model, has the copy loaded and asked in a fresh process, and blesses it when that goes well.

    Args:
        split: of the examples to ask.
        validator: module to run; it takes `serving.validation`'s options.
    """
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    copy = Path(path_utils.stamped_model_path(blessing.uri))
    shutil.copytree(path_utils.serving_model_path(model.uri), copy, dirs_exist_ok=True)
    files = sorted(Path(artifact_utils.get_split_uri([examples], split)).iterdir())
    command = [sys.executable, "-m", validator, str(copy), f"--warmup-for={model_name}"]
    command += [f"--examples={file}" for file in files]
    command += [f"--max-load-s={max_load_s}", f"--max-latency-ms={max_latency_ms}", f"--windows={windows}"]
    command += [f"--json={folder / REPORT_FILE}"]
    with (folder / OUTPUT_FILE).open("w", encoding="utf-8") as output:
        try:
            code = subprocess.run(
                command, cwd=_ROOT, stdout=output, stderr=output, timeout=2 * max_load_s + 300, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            output.write("it did not end")
            code = -1
    blessing.set_int_custom_property("blessed", int(code == 0))
    blessing.set_int_custom_property("has_model", 1)
