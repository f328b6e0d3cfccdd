"""The training pipeline compiles for Kubeflow Pipelines: all stages, their order, no secret."""

import json

import pytest

from configs.contract import FeatureSpec
from configs.settings import load_settings
from warehouse.store.records import DataSpan

pytestmark = pytest.mark.integration


def test_the_pipeline_compiles_for_kubeflow(tmp_path, monkeypatch):
    from pipelines.kubeflow import compile_pipeline
    from pipelines.training_pipeline import PipelineHome, create_pipeline

    settings = load_settings()
    home = PipelineHome("ecg_autoencoder", tmp_path, tmp_path / "none.sqlite", ("--runner=DirectRunner",), True)
    pipeline = create_pipeline(
        home, span=DataSpan(3, "digest", 100, {}), spec=FeatureSpec(), training=settings.training,
        searching=settings.search.model_copy(update={"trials": 2}), evaluation=settings.evaluation,
        serving=settings.serving, schema_file="gs://bucket/ecg/schema.pbtxt", baseline_uri=None, push_dir="gs://bucket/ecg/models",
    )  # fmt: skip
    file = tmp_path / "out" / "job.json"
    compile_pipeline(pipeline, pipeline_root="gs://bucket/ecg", image="registry/ecg:1", file=file)
    job = json.loads(file.read_text())
    spec = job["pipelineSpec"]
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {
        "PostgresExampleGen", "StatisticsGen", "ImportSchemaGen", "ExampleValidator", "DataGate", "Transform",
        "Tuner", "Trainer", "Evaluator", "ServingCheck", "Pusher",
    }  # fmt: skip
    assert "DataGate" in tasks["Transform"]["dependentTasks"]
    assert "Tuner" in tasks["Trainer"]["dependentTasks"]
    assert {"Evaluator", "ServingCheck"} <= set(tasks["Pusher"]["dependentTasks"])
    images = {one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values() if "container" in one}
    assert images == {"registry/ecg:1"}
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/ecg"
    assert "postgresql://" not in file.read_text()
