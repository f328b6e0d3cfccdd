"""The search for hyper-parameters: what it tries first, what a failed trial does, and what it chooses."""

import pytest

from components.search import SettingsTuner
from components.trainer import chosen_values
from configs.errors import DataInvalidError
from configs.settings import SearchSettings, load_settings

pytestmark = pytest.mark.unit

TRAINING = load_settings().training
SPACE = {"latent_units": (4, 8, 12, 16), "hidden_units": ((16,), (32, 16)), "learning_rate": (0.001, 0.01)}


def search(tmp_path, measure, **options):
    tried = []

    def measured(settings):
        tried.append(settings)
        return measure(settings)

    settings = SearchSettings(**{"space": SPACE, "trials": 8, **options})
    tuner = SettingsTuner(measured, TRAINING, settings, str(tmp_path))
    tuner.search(verbose=0)
    return tuner, tried


@pytest.mark.parametrize(("algorithm", "trials"), [("random", 8), ("bayesian", 5)])
def test_what_is_configured_is_tried_first_and_the_best_is_chosen(tmp_path, algorithm, trials):
    tuner, tried = search(
        tmp_path, lambda s: {"average_precision": s.latent_units / 100 + s.learning_rate, "roc_auc": 0.5},
        algorithm=algorithm, trials=trials,
    )  # fmt: skip
    assert tried[0] == TRAINING
    assert len(tuner.oracle.trials) == trials
    assert len(set(tried)) == len(tried)  # nothing is fitted twice
    assert {settings.epochs for settings in tried} == {TRAINING.epochs}  # not searched: as it is
    best = chosen_values(tuner.get_best_hyperparameters()[0].values)
    assert best["latent_units"] == max(settings.latent_units for settings in tried)
    assert set(best) == set(SPACE)
    assert isinstance(best["hidden_units"], list)


def test_a_trial_without_finite_numbers_is_passed_over(tmp_path):
    def measure(settings):
        if settings.latent_units != 8:
            raise DataInvalidError("training", "the loss of epoch 0 is nan")
        return {"average_precision": 0.5, "roc_auc": 0.5}

    tuner, tried = search(tmp_path, measure)
    assert len(tried) == 8
    assert chosen_values(tuner.get_best_hyperparameters()[0].values)["latent_units"] == 8
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED", "FAILED"}


def test_a_search_in_which_every_trial_failed_says_so(tmp_path):
    def measure(settings):
        raise DataInvalidError("training", "the loss of epoch 0 is nan")

    with pytest.raises(DataInvalidError, match="none of 8 trials gave finite numbers"):
        search(tmp_path, measure)


@pytest.mark.parametrize(
    ("space", "message"),
    [({"model_name": ["a"]}, "model_name cannot be searched"),
     ({"latent_units": [4, 0]}, "latent_units cannot be 0: Input should be greater"),
     ({"hidden_units": [[]]}, "hidden_units")],
)  # fmt: skip
def test_values_that_training_would_refuse_are_refused_before_the_search(space, message):
    with pytest.raises(ValueError, match=message):
        SearchSettings(space=space)
