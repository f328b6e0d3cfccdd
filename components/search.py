"""TFX Tuner's entry point: searches hyper-parameters by how well the beats of held-out patients are ranked.

The autoencoders are fitted on the normal windows of the train split, as in training; what is maximised is measured on
the labelled windows of the calibration split. The test split takes no part.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft
from sklearn.metrics import average_precision_score, roc_auc_score
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from components.fitting import fit_model, in_batches
from components.trainer import SETTINGS, SPEC, chosen_values, load_normals, load_windows, with_values
from components.training_data import InMemory
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import Searched, SearchSettings, TrainingSettings

#: Key of the Tuner's custom configuration, beside the Trainer's.
SEARCH = "search"
LEAST_RANDOM = 3  # trials before a Gaussian process has anything to go by

_log = logging.getLogger(__name__)


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Builds the search that TFX's Tuner runs.

    Raises:
        DataInvalidError: too few normal windows, or labels of one kind only in the calibration split.
    """
    training = TrainingSettings.model_validate(fn_args.custom_config[SETTINGS])
    search = SearchSettings.model_validate(fn_args.custom_config[SEARCH])
    spec = FeatureSpec.model_validate(fn_args.custom_config[SPEC])
    transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    cache = Path(str(fn_args.working_dir)) / "cache"
    train = load_normals(fn_args.train_files, transform_output, training, contract.TRAIN, cache)
    held_out = load_normals(fn_args.eval_files, transform_output, training, contract.CALIBRATION, cache)
    features, anomalous, labelled = load_windows(fn_args.eval_files, transform_output)
    ranked = {name: values[labelled] for name, values in features.items()}
    truth = anomalous[labelled]
    if truth.all() or not truth.any():
        raise DataInvalidError(
            "calibration split",
            f"has {truth.sum()} anomalous and {(~truth).sum()} normal labelled windows: a search ranks one against the "
            "other",
            "Put a patient with reference labels into it (warehouse.ingest --split calibration), or train without "
            "--tune.",
        )
    transform = transform_output.transform_features_layer()

    def measure(settings: TrainingSettings) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as logs:
            model, _ = fit_model(train, held_out, transform, spec, settings, Path(logs))
        return rank(in_batches(tf.function(model.raw_measure, reduce_retracing=True), InMemory(ranked)), truth)

    tuner = SettingsTuner(measure, training, search, directory=str(fn_args.working_dir))
    return TunerFnResult(tuner=tuner, fit_kwargs={"verbose": 0})


def rank(score: npt.NDArray[np.floating[Any]], anomalous: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Measures of a ranking (n,), by the names that `SearchSettings.objective` may have."""
    return {
        "average_precision": float(average_precision_score(anomalous, score)),
        "roc_auc": float(roc_auc_score(anomalous, score)),
    }


class SettingsTuner(keras_tuner.Tuner):
    """Searches values of `TrainingSettings`. The first trial is what they are, so a search has something to beat.

    Args:
        measure: fits by settings; gives measures, of which `search.objective` is maximised.
        training: where values that are not searched come from.
        search: how many trials of what.
        directory: trials are written to a folder in it as they end.
    """

    def __init__(
        self,
        measure: Callable[[TrainingSettings], Mapping[str, float]],
        training: TrainingSettings,
        search: SearchSettings,
        directory: str,
    ) -> None:
        self._measure, self._training = measure, training
        self._known: dict[TrainingSettings, dict[str, float]] = {}
        space = _space(training, search.space)
        self._configured = dict(space.values)
        options: dict[str, Any] = {
            "objective": keras_tuner.Objective(search.objective, "max"),
            "max_trials": search.trials,
            "hyperparameters": space,
            "tune_new_entries": False,
            "seed": training.seed,
            "max_consecutive_failed_trials": search.trials + 1,  # see on_search_end
        }
        if search.algorithm == "bayesian":
            options["num_initial_points"] = max(LEAST_RANDOM, search.trials // 3)
            oracle = keras_tuner.oracles.BayesianOptimizationOracle(**options)
        else:
            oracle = keras_tuner.oracles.RandomSearchOracle(**options)
        super().__init__(oracle=oracle, directory=directory, project_name="search", overwrite=True)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Fits and measures. A fit that gives no finite numbers is a failed trial, and the search goes on.

        Values that a Gaussian process proposes again are not fitted again: the seed is the same, and so is the result.
        """
        del args, kwargs
        if len(self.oracle.trials) == 1:
            trial.hyperparameters.values = dict(self._configured)
        values = chosen_values(trial.hyperparameters.values)
        settings = with_values(self._training, values)
        try:
            measured = self._known.get(settings) or dict(self._measure(settings))
        except DataInvalidError as error:
            _log.warning("trial %s failed: %s", trial.trial_id, error)
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        self._known[settings] = measured
        _log.info("trial %s: %s of %s", trial.trial_id, measured, values)
        return measured

    def on_search_end(self) -> None:
        """Says so when there is nothing to choose from.

        Raises:
            DataInvalidError: no trial gave finite numbers.
        """
        if all(trial.status != "COMPLETED" for trial in self.oracle.trials.values()):
            raise DataInvalidError(
                "search", f"none of {len(self.oracle.trials)} trials gave finite numbers", "Look at search.space."
            )

    def search_space_summary(self, extended: bool = False) -> None:
        """To the log: standard output is the caller's."""
        _log.info("search space: %s", [p.get_config() for p in self.oracle.get_space().space])

    def results_summary(self, num_trials: int = 10) -> None:
        """To the log."""
        best = self.oracle.get_best_trials(num_trials)
        _log.info("best trials: %s", [(trial.score, trial.hyperparameters.values) for trial in best])


def _space(training: TrainingSettings, space: Mapping[str, tuple[Searched, ...]]) -> keras_tuner.HyperParameters:
    """KerasTuner's search space, at the configured values; these can be chosen too."""
    found = keras_tuner.HyperParameters()
    for key, values in space.items():
        choices = [_encoded(value) for value in (getattr(training, key), *values)]
        if any(isinstance(choice, float) for choice in choices):
            choices = [float(choice) for choice in choices]
        found.Choice(key, sorted(set(choices)), default=choices[0])
    return found


def _encoded(value: Searched) -> int | float | bool | str:
    return str(list(value)) if isinstance(value, tuple) else value
