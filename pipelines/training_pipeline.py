"""The TFX training pipeline: which stages, in which order, with which values. Every value is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx import v1 as tfx
from tfx.proto import trainer_pb2

from components import preprocessing, search, trainer
from components.data_gate import DataGate
from components.evaluation import eval_config
from components.example_gen import PostgresExampleGen
from components.infra_validation import ServingCheck
from components.lineage import code_digest
from configs import contract
from configs.contract import FeatureSpec
from configs.settings import EvaluationSettings, SearchSettings, ServingSettings, TrainingSettings
from warehouse.store.records import DataSpan

#: Part of what a stage's cache is keyed on: our own code is not a TFX artifact, so its change must be seen here.
CODE = "code_digest"


@dataclass(frozen=True)
class PipelineHome:
    """Where a pipeline lives: its name, its artifacts, ML Metadata's SQLite file, and how Beam runs."""

    name: str
    root: Path
    metadata_path: Path
    beam_args: Sequence[str]
    enable_cache: bool

    def pipeline(self, stages: Sequence[Any]) -> tfx.dsl.Pipeline:
        """These stages as a pipeline of this home."""
        return tfx.dsl.Pipeline(
            pipeline_name=self.name,
            pipeline_root=str(self.root),
            components=list(stages),
            enable_cache=self.enable_cache,
            metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
                str(self.metadata_path)
            ),
            beam_pipeline_args=list(self.beam_args),
        )


def create_schema_pipeline(home: PipelineHome, *, span: DataSpan, training: TrainingSettings) -> tfx.dsl.Pipeline:
    """Builds the pipeline that a first run starts with: infers the schema that is curated from then on.

    Args:
        span: which windows to read.
        training: for the size of a read.
    """
    example_gen = PostgresExampleGen(span, block_windows=training.block_windows)
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=True)
    return home.pipeline([example_gen, statistics_gen, schema_gen])


def create_pipeline(
    home: PipelineHome,
    *,
    span: DataSpan,
    spec: FeatureSpec,
    training: TrainingSettings,
    searching: SearchSettings,
    evaluation: EvaluationSettings,
    serving: ServingSettings,
    schema_file: str,
    baseline_uri: str | None,
    push_dir: str | None,
) -> tfx.dsl.Pipeline:
    """Builds the training pipeline.

    Args:
        home: where it lives.
        span: which windows to read.
        spec: geometry of the windows.
        training: of the autoencoders.
        searching: which of its values to search first, in how many trials.
        evaluation: the gates.
        serving: what a model must keep to be served, and the warm-up requests it carries.
        schema_file: the curated schema: a path or URI where the stages run.
        baseline_uri: model artifact that the new one must not be worse than; None when there is none.
        push_dir: where the Pusher puts a blessed model, a path or URI; None trains and evaluates without pushing.
    """
    code = code_digest()

    # Windows of the span, a split a patient split.
    example_gen = PostgresExampleGen(span, block_windows=training.block_windows)

    # What the data looks like, what it should look like, and whether it does.
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = tfx.components.ImportSchemaGen(schema_file=schema_file)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    gate = DataGate(anomalies=example_validator.outputs["anomalies"])

    # The preprocessing graph, the same in training and serving. Its analyzers see the training split only.
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="components.preprocessing.preprocessing_fn",
        custom_config={preprocessing.SPEC: spec.model_dump(mode="json"), CODE: code},
        splits_config=tfx.proto.SplitsConfig(
            analyze=[contract.TRAIN], transform=[contract.TRAIN, contract.CALIBRATION]
        ),
        disable_statistics=True,
    )
    transform.add_upstream_node(gate)

    fitting = {
        "examples": transform.outputs["transformed_examples"],
        "transform_graph": transform.outputs["transform_graph"],
        "train_args": trainer_pb2.TrainArgs(splits=[contract.TRAIN]),
        "eval_args": trainer_pb2.EvalArgs(splits=[contract.CALIBRATION]),
    }
    config = {
        trainer.SETTINGS: training.model_dump(mode="json"),
        trainer.SPEC: spec.model_dump(mode="json"),
        CODE: code,
    }

    # Hyper-parameters that rank the calibration split's beats best; the test split takes no part.
    tuner = None
    if searching.trials:
        tuner = tfx.components.Tuner(
            tuner_fn="components.search.tuner_fn",
            custom_config=config | {search.SEARCH: searching.model_dump(mode="json")},
            **fitting,
        )

    # Autoencoders on normal beats, calibrated on held-out ones.
    model_trainer = tfx.components.Trainer(
        run_fn="components.trainer.run_fn",
        schema=schema_gen.outputs["schema"],
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner is not None else None,
        custom_config=config,
        **fitting,
    )

    # Metrics and gates on patients that neither training nor calibration saw.
    stages = [example_gen, statistics_gen, schema_gen, example_validator, gate, transform]
    stages += [stage for stage in (tuner, model_trainer) if stage is not None]
    baseline = None
    if baseline_uri is not None:
        importer = tfx.dsl.Importer(source_uri=baseline_uri, artifact_type=tfx.types.standard_artifacts.Model).with_id(
            "baseline_model"
        )
        stages.append(importer)
        baseline = importer.outputs["result"]
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=model_trainer.outputs["model"],
        baseline_model=baseline,
        eval_config=eval_config(evaluation, has_baseline=baseline is not None),
        example_splits=[contract.TEST],
    )
    stages.append(evaluator)

    # Can it be served? Loaded and asked in a process of its own; blessed copies carry warm-up requests.
    check = ServingCheck(
        model=model_trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        split=contract.TEST,
        model_name=training.model_name,
        max_load_s=serving.max_load_s,
        max_latency_ms=serving.max_latency_ms,
        windows=serving.warmup_windows,
        validator="serving.validation",
    )
    stages.append(check)

    # Blessed models only.
    if push_dir is not None:
        stages.append(
            tfx.components.Pusher(
                model_blessing=evaluator.outputs["blessing"],
                infra_blessing=check.outputs["blessing"],
                push_destination=tfx.proto.PushDestination(
                    filesystem=tfx.proto.PushDestination.Filesystem(base_directory=push_dir)
                ),
            )
        )
    return home.pipeline(stages)
