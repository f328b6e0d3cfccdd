"""Settings: layers, and errors that name the key."""

import pytest

from configs.contract import FeatureSpec
from configs.errors import ConfigurationError
from configs.settings import load_settings

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("ECG_")]:
        monkeypatch.delenv(name)


def test_options_go_before_the_environment_and_that_before_the_profile(tmp_path, monkeypatch):
    profile = tmp_path / "mine.yaml"
    profile.write_text("training: {epochs: 3, seed: 4, batch_size: 64}\n")
    monkeypatch.setenv("ECG_TRAINING__SEED", "5")
    monkeypatch.setenv("ECG_TRAINING__EPOCHS", "6")
    settings = load_settings(profile, {"training": {"epochs": 9, "learning_rate": None}})
    assert (settings.training.epochs, settings.training.seed, settings.training.batch_size) == (9, 5, 64)
    assert settings.training.learning_rate == 2e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 3}", r"mine\.yaml, key training\.epoch: Extra inputs"),
        ("trainin: {epochs: 3}", r"mine\.yaml, key trainin: Extra inputs"),
        ("training: {epochs: many}", r"key training\.epochs: Input should be a valid integer"),
        ("features: {band_hz: [0.5, 120]}", r"key features.*half the sampling rate"),
        ("- a\n- b", "must hold keys and values"),
        ("training: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_profile_names_file_and_key(tmp_path, text, message):
    profile = tmp_path / "mine.yaml"
    profile.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_settings(profile)


def test_a_misspelt_variable_is_an_error_and_names_the_known_ones(monkeypatch):
    monkeypatch.setenv("ECG_WAREHOUSE_URI", "x")
    with pytest.raises(ConfigurationError, match=r"ECG_WAREHOUSE_URI: is not a setting.*ECG_WAREHOUSE_URL"):
        load_settings()


def test_an_unknown_profile_lists_those_that_are_there():
    with pytest.raises(ConfigurationError, match="default, smoke"):
        load_settings("holter")


def test_geometry_in_samples_and_its_version():
    spec = FeatureSpec()
    assert (spec.before_samples, spec.after_samples, spec.window_samples, spec.n_leads) == (70, 90, 160, 2)
    assert FeatureSpec().digest == spec.digest
    assert FeatureSpec(after_ms=510).digest != spec.digest
