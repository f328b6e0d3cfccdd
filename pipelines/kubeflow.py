"""The training pipeline for Kubeflow Pipelines (v2): compiled here, run by a cluster."""

from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError, ModelUnavailableError


def compile_pipeline(pipeline: Any, *, pipeline_root: str, image: str, file: Path) -> None:
    """Writes a pipeline as a Kubeflow Pipelines v2 job.

    Args:
        pipeline: a TFX pipeline.
        pipeline_root: where the cluster keeps artifacts: gs://, s3:// or a mounted path.
        image: container image with this project and its environment (Dockerfile.pipeline).
        file: to write, .json.

    Raises:
        ModelUnavailableError: kfp-pipeline-spec is not installed.
        ConfigurationError: the pipeline cannot be expressed.
    """
    try:
        from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kubeflow
    except ImportError as error:
        raise ModelUnavailableError("--runner kubeflow", f"needs {error.name}", "Run `make setup`.") from error
    pipeline.pipeline_info.pipeline_root = pipeline_root
    # The cluster has a metadata store of its own.
    pipeline.metadata_connection_config = None
    pipeline.pipeline_info.pipeline_name = pipeline.pipeline_info.pipeline_name.replace("_", "-")
    file.parent.mkdir(parents=True, exist_ok=True)
    config = kubeflow.KubeflowV2DagRunnerConfig(default_image=image)
    runner = kubeflow.KubeflowV2DagRunner(config=config, output_dir=str(file.parent), output_filename=file.name)
    try:
        runner.run(pipeline, write_out=True)
    except (TypeError, ValueError) as error:
        raise ConfigurationError("--runner kubeflow", str(error).splitlines()[0]) from error
