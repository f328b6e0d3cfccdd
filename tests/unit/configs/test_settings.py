"""Settings: layers, and errors that name the key."""

import pytest

from configs import document
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


def test_a_variable_with_file_after_its_name_names_a_file_that_holds_the_value(tmp_path, monkeypatch):
    url, issuer = tmp_path / "url", tmp_path / "issuer"
    url.write_text("postgresql://ecg:p%40ss@warehouse/ecg\n")
    issuer.write_text("https://sso.example")
    monkeypatch.setenv("ECG_WAREHOUSE_URL_FILE", str(url))
    monkeypatch.setenv("ECG_OIDC__ISSUER_FILE", str(issuer))
    monkeypatch.setenv("ECG_RESULTS_URL_FILE", "")
    settings = load_settings(overrides={"oidc": {"audience": "a"}})
    assert settings.warehouse_url == "postgresql://ecg:p%40ss@warehouse/ecg"
    assert (settings.oidc.issuer, settings.oidc.audience) == ("https://sso.example", "a")
    assert settings.results_url is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"ECG_API__PORT_FILE: .*value cannot be read \(No such file"),
        (" \n", r"ECG_API__PORT_FILE: .*value is empty"),
        ("many", r"environment variable ECG_API__PORT_FILE: Input should be a valid integer"),
    ],
)
def test_a_value_file_that_cannot_be_used_is_an_error_that_names_the_variable(tmp_path, monkeypatch, text, message):
    file = tmp_path / "value"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("ECG_API__PORT_FILE", str(file))
    with pytest.raises(ConfigurationError, match=message):
        load_settings()


def test_a_value_and_its_file_cannot_both_be_given(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_RESULTS_URL", "postgresql://a/b")
    monkeypatch.setenv("ECG_RESULTS_URL_FILE", str(tmp_path))
    with pytest.raises(ConfigurationError, match="ECG_RESULTS_URL and ECG_RESULTS_URL_FILE: are both set"):
        load_settings()
    monkeypatch.setenv("ECG_RESULT_URL_FILE", "x")
    with pytest.raises(ConfigurationError, match="ECG_RESULT_URL_FILE: is not a setting"):
        load_settings()


def test_no_setting_is_called_what_a_value_file_is():
    assert not [s.key for section in document.sections() for s in section.settings if s.key.endswith("_file")]


def test_an_unknown_profile_lists_those_that_are_there():
    with pytest.raises(ConfigurationError, match="default, smoke"):
        load_settings("holter")


def test_geometry_in_samples_and_its_version():
    spec = FeatureSpec()
    assert (spec.before_samples, spec.after_samples, spec.window_samples, spec.n_leads) == (70, 90, 160, 2)
    assert FeatureSpec().digest == spec.digest
    assert FeatureSpec(after_ms=510).digest != spec.digest
