"""Settings of every process: environment (prefix `ECG_`), then a YAML profile, then the defaults below.

Only entry points build `Settings`; everything else is handed what it needs.
`ECG_PROFILE` names a profile of `configs/` (`default`, `smoke`) or a YAML file. Nested keys are written with a
double underscore in the environment: `ECG_TRAINING__EPOCHS=20`. With `_FILE` after its name, a variable names a file
that holds the value, which is how containers are handed secrets: `ECG_RESULTS_URL_FILE=/run/secrets/results_url`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from configs.contract import FeatureSpec
from configs.errors import ConfigurationError

PROFILES_DIR = Path(__file__).parent
PREFIX = "ECG_"
FILE_SUFFIX = "_FILE"  # no setting's name ends so


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestSettings(_Section):
    """Reading recordings into the warehouse."""

    workers: int = Field(0, ge=0, le=64, description="Processes that read and cut recordings; 0 takes one a core.")
    block_s: float = Field(900.0, ge=30, description="Seconds of signal in memory at a time, a lead and worker.")
    detector: str = Field("neurokit", description="neurokit2 R-peak method where there are no reference annotations.")
    use_annotations: bool = Field(
        True, description="Take R peaks and labels from reference annotations when there are some."
    )
    split_shares: dict[str, float] = Field(
        {"train": 0.5, "calibration": 0.2, "test": 0.3},
        description="Share of patients that each split aims at. A patient's split is fixed when first seen.",
    )


class BootstrapSettings(_Section):
    """What a new installation begins with: `python -m pipelines.bootstrap`."""

    source: str = Field(
        "physionet",
        pattern="^(physionet|folder|simulator|none)$",
        description="Recordings: physionet (six MIT-BIH records are downloaded), folder (bootstrap.folder), simulator "
        "(six made-up patients, to try things without a network), or none.",
    )
    folder: Path | None = Field(None, description="Folder of recordings; read again at every start, for what is new.")


class TrainingSettings(_Section):
    """The TFX training pipeline and its model."""

    model_name: str = Field(
        "ecg_autoencoder", pattern=r"^[a-z][a-z0-9_]*$", description="Folder and served name of the model."
    )
    seed: int = Field(7, ge=0, description="Seed of weights, shuffling and augmentation.")
    epochs: int = Field(14, ge=1, le=1000, description="Passes over the normal training windows.")
    batch_size: int = Field(128, ge=8, le=65536, description="Windows a gradient step.")
    learning_rate: float = Field(2e-3, gt=0, lt=1, description="Peak of the cosine decay.")
    layers: str = Field("dense", pattern="^(dense|convolutional)$", description="What the autoencoders are made of.")
    hidden_units: tuple[int, ...] = Field(
        (96, 48), min_length=1, max_length=6, description="Dense layers of the morphology autoencoder, inwards."
    )
    latent_units: int = Field(8, ge=1, le=256, description="Width of its bottleneck.")
    context_hidden_units: tuple[int, ...] = Field(
        (64,), min_length=1, max_length=6, description="Dense layers of the autoencoder that knows the template."
    )
    context_latent_units: int = Field(
        2, ge=1, le=256, description="Width of its bottleneck: how far a normal beat may vary around the template."
    )
    filters: tuple[int, ...] = Field(
        (16, 32, 32, 64),
        min_length=1,
        max_length=6,
        description="Filters of each stride-2 convolution, when layers are convolutional.",
    )
    shift_samples: int = Field(3, ge=0, le=30, description="Largest shift in augmentation, both ways.")
    population: str = Field(
        "new_patients",
        pattern="^(new|known)_patients$",
        description="Who will be scored: patients never seen (compared mostly with their own template), or those whose "
        "normal beats are in the training data (compared mostly with these, by amplitude too).",
    )
    use_template: bool = Field(True, description="Compare beats with the recording's running template.")
    use_context: bool = Field(True, description="Train the second autoencoder, conditioned on the running template.")
    use_rhythm: bool = Field(True, description="Add the RR-interval term to the score.")
    false_alarm_rate: float = Field(
        0.03, gt=0, lt=0.5, description="Share of held-out normal beats at or above the threshold."
    )
    memory_windows: int = Field(
        400_000,
        ge=0,
        description="Up to so many normal windows of a split are trained on from memory (2.7 kB each, twice); more are "
        "streamed from disk, in memory that does not depend on their number.",
    )
    shuffle_windows: int = Field(
        32_768, ge=1, description="Of streamed windows: how many the order of an epoch is drawn from."
    )
    precision: str = Field(
        "float32",
        pattern="^(float32|mixed_bfloat16|mixed_float16)$",
        description="Of training, where the hardware is faster at it; what is exported is float32.",
    )
    distribute: str = Field(
        "none",
        pattern="^(none|mirrored)$",
        description="mirrored: train on all GPUs of the machine (MirroredStrategy).",
    )
    max_windows: int = Field(0, ge=0, description="Use at most this many windows of each split; 0 takes all.")
    min_normal_windows: int = Field(200, ge=1, description="Refuse to train, or to calibrate, on fewer normal windows.")
    treat_unlabelled_as_normal: bool = Field(
        True, description="Unlabelled windows of the train and calibration splits count as normal."
    )
    reviewed_windows: str = Field(
        "add",
        pattern="^(add|replace|exclude|ignore)$",
        description="Reviewers' labels in training: add (where there is no reference label), replace (reference "
        "labels too), exclude (leave reviewed windows out), ignore. Beats reviewed as artefacts are left out by the "
        "first three.",
    )
    block_windows: int = Field(4096, ge=64, description="Windows a warehouse read in ExampleGen.")


#: Keys of `training` that a search may choose: what a model is made of and how it is fitted.
SEARCHED = (
    "epochs", "batch_size", "learning_rate", "layers", "hidden_units", "latent_units", "context_hidden_units",
    "context_latent_units", "filters", "shift_samples", "use_template", "use_context", "use_rhythm",
)  # fmt: skip

#: A value of one of them.
Searched = int | float | bool | str | tuple[int, ...]


class SearchSettings(_Section):
    """The search for hyper-parameters before training; `python -m pipelines.train --tune N` runs one."""

    trials: int = Field(
        0, ge=0, le=10000, description="Trials of hyper-parameters; 0 trains with those of `training`, unsearched."
    )
    algorithm: str = Field(
        "random",
        pattern="^(random|bayesian)$",
        description="How the next trial is chosen: at random, or by a Gaussian process fitted to those before.",
    )
    objective: str = Field(
        "average_precision",
        pattern="^(average_precision|roc_auc)$",
        description="What is maximised, on the labelled windows of the calibration split.",
    )
    space: dict[str, tuple[Searched, ...]] = Field(
        {
            "learning_rate": (0.001, 0.002, 0.004),
            "epochs": (8, 14, 20),
            "hidden_units": ((64, 32), (96, 48), (128, 64)),
            "latent_units": (4, 8, 12),
            "context_hidden_units": ((32,), (64,), (96,)),
            "context_latent_units": (1, 2, 4),
            "shift_samples": (0, 2, 3),
        },
        description="Keys of `training` and the values each may take; the first trial is what `training` says.",
    )

    @model_validator(mode="after")
    def _space_is_of_training(self) -> Self:
        for key, values in self.space.items():
            if key not in SEARCHED:
                raise ValueError(f"space: {key} cannot be searched; only {', '.join(SEARCHED)} can")
            for value in values:
                try:
                    TrainingSettings.model_validate({key: value})
                except ValidationError as error:
                    raise ValueError(f"space: {key} cannot be {value}: {error.errors()[0]['msg']}") from error
        return self


class EvaluationSettings(_Section):
    """The Evaluator's gates; a model that misses one is not blessed."""

    min_roc_auc: float = Field(0.80, ge=0, le=1, description="Smallest ROC-AUC on the test split.")
    min_average_precision: float = Field(0.20, ge=0, le=1, description="Smallest average precision on the test split.")
    min_recall_at_threshold: float = Field(0.10, ge=0, le=1, description="Smallest share of anomalous beats flagged.")
    max_false_alarm_rate: float = Field(
        0.75, ge=0, le=1, description="Largest share of normal beats flagged on the test split."
    )
    max_roc_auc_drop: float = Field(
        0.02, ge=0, le=1, description="Largest loss of ROC-AUC against the last blessed model."
    )


class ScoringSettings(_Section):
    """Batch scoring."""

    block_windows: int = Field(4096, ge=1, description="Windows read, scored and committed at a time.")
    batch_size: int = Field(1024, ge=1, description="Windows a model call.")
    beam_args: tuple[str, ...] = Field(("--runner=DirectRunner",), description="Beam pipeline options, one an item.")
    episode_gap_beats: int = Field(
        1, ge=0, description="Normal beats that may lie between anomalous beats of one episode."
    )
    thresholds: str = Field(
        "model",
        pattern="^(model|recording)$",
        description="Verdicts by the model's threshold, the same for all; or by thresholds that follow the recording: "
        "its own unremarkable beats, or what reviewers said of ten or more of its beats. So noisy and quiet recordings "
        "ring about as often.",
    )


class ServingSettings(_Section):
    """Where models are asked, and what a version must keep before it may be pushed."""

    server: str | None = Field(
        None,
        description="Model server, grpc://HOST:8500 or http://HOST:8501; the model runs in the process when unset.",
    )
    models_path: str | None = Field(
        None,
        description="Where the server finds the folder of models, such as /models; as here when unset.",
    )
    deadline_s: float = Field(30.0, gt=0, le=600, description="Seconds a request may take, with its repetitions.")
    attempts: int = Field(5, ge=1, le=20, description="Times a request is sent when the server cannot be reached.")
    max_in_flight: int = Field(2, ge=1, le=64, description="Batches a client sends at once; more wait.")
    max_load_s: float = Field(60.0, gt=0, description="A version that takes longer to load is not pushed.")
    max_latency_ms: float = Field(250.0, gt=0, description="A version whose p99 for one window is above is not pushed.")
    warmup_windows: int = Field(
        32,
        ge=1,
        le=1000,
        description="Windows that a version is asked before it is pushed, and in its warm-up requests.",
    )


class ReleaseSettings(_Section):
    """Automatic promotion of the version in shadow; `python -m serving.release auto` decides."""

    auto_promote: bool = Field(False, description="Promote a version in shadow when it passes all gates below.")
    min_windows: int = Field(5000, ge=1, description="Windows that both versions have scored, at least.")
    min_agreement: float = Field(0.90, ge=0, le=1, description="Smallest share of windows with the same verdict.")
    max_flagged_ratio: float = Field(
        1.5, ge=1, description="The share of anomalous windows may differ by this factor at most, up or down (drift)."
    )
    max_latency_ratio: float = Field(1.5, gt=0, description="Largest time a window in the model, over the stable one.")
    max_ap_drop: float = Field(
        0.02, ge=0, le=1, description="Largest loss of average precision on windows with a known class (quality)."
    )


class PrivacySettings(_Section):
    """How long patients' data are kept; `python -m warehouse.privacy retain` deletes what is older."""

    retention_days: int = Field(
        0, ge=0, le=36500, description="Recordings that ended longer ago are deleted; 0 keeps everything."
    )
    erasure_log: Path | None = Field(
        None,
        description="File that every erasure is noted in, for restores of older backups: best erasures.jsonl where the "
        "backups are. data_dir/erasures.jsonl when unset.",
    )


class DriftSettings(_Section):
    """Comparing live windows with the reference of the model version; `python -m monitoring.drift`."""

    look_back_h: float = Field(
        168.0, gt=0, le=8760, description="Recordings that arrived within so many hours are live."
    )
    every_s: float = Field(600.0, gt=0, description="Time between two comparisons of --watch.")
    false_alarms: float = Field(
        0.005,
        gt=0,
        lt=0.5,
        description="Chance that a comparison without any drift finds something, over all its tests.",
    )
    windows_per_recording: int = Field(5000, ge=100, description="Newest windows of a recording that are looked at.")
    reference_recordings: int = Field(300, ge=5, description="Recordings a reference is made of, at most.")
    skew_windows: int = Field(20_000, ge=100, description="Windows that `python -m pipelines.skew` looks at, a site.")
    least_reviews: int = Field(
        50, ge=10, description="Reviewed beats that concept drift needs, in each of the two periods it compares."
    )


class RetrainSettings(_Section):
    """When `python -m pipelines.retrain` trains a successor, on what, and what it must be better at."""

    on_drift: bool = Field(True, description="Train when the last drift report has findings that count.")
    drift_max_age_hours: float = Field(48.0, gt=0, description="An older drift report counts for nothing.")
    min_precision: float = Field(
        0.0, ge=0, le=1, description="Train when live precision is surely below (95 % interval); 0 for never."
    )
    min_reviews: int = Field(50, ge=1, description="Reviewed flagged beats, at least, to judge precision by.")
    new_labels: int = Field(
        0, ge=0, description="Train at so many reviewed beats that the version has not read; 0: never."
    )
    max_age_days: float = Field(0.0, ge=0, description="Train when the version is older; 0 for never.")
    cooldown_hours: float = Field(24.0, ge=0, description="Least time between the starts of two trainings.")
    max_per_30_days: int = Field(6, ge=1, description="Most trainings in 30 days.")
    recent_days: float = Field(
        90.0, ge=0, description="Recordings ingested since are read whole, as all that the version has not seen."
    )
    memory_windows: int = Field(
        200_000, ge=1, description="Windows of older recordings, a split: drawn evenly over device, leads, sex and age."
    )
    max_lost_share: float = Field(
        0.5, ge=0, le=1, description="Refuse new recordings when more of their beats gave no window."
    )
    max_duplicate_share: float = Field(
        0.05, ge=0, le=1, description="Refuse new recordings when more of their windows are copies from each other."
    )
    min_label_agreement: float = Field(
        0.5, ge=0, le=1, description="Refuse new recordings when the version's ROC-AUC on their labels is below."
    )
    min_labelled: int = Field(
        50, ge=1, description="Labelled normal beats, at least, to judge a slice by; a fifth of it of anomalous ones."
    )
    min_gain: float = Field(
        0.0, ge=-1, le=1, description="The new version must gain more balanced accuracy than this on the new slice."
    )
    max_loss: float = Field(
        0.02, ge=0, le=1, description="Most it may lose, of average precision or balanced accuracy, on any slice."
    )
    check_minutes: float = Field(15.0, gt=0, description="With --watch: time between two looks.")


class OidcSettings(_Section):
    """Sign-in with bearer tokens of an OpenID Connect provider."""

    issuer: str | None = Field(None, description="Issuer, as in its tokens; unset: no bearer tokens are accepted.")
    audience: str = Field("ecg", description="Audience that tokens must be for.")
    jwks_url: str | None = Field(None, description="The issuer's keys; asked of the issuer when unset.")
    role_claim: str = Field("ecg_role", description="Claim with viewer, reviewer, admin or device, or a list with one.")
    site_claim: str = Field("ecg_site", description="Claim with the site; empty: everybody is of the setting `site`.")
    name_claim: str = Field(
        "preferred_username", description="Claim that names who reviews; `sub` where it is missing."
    )


class ApiSettings(_Section):
    """The REST service."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Beyond loopback only once there is an API key (`python -m api.keys`) or an "
        "OIDC issuer.",
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port.")
    page_size: int = Field(100, ge=1, le=1000, description="Items a page when the caller does not say.")
    max_page_size: int = Field(1000, ge=1, le=10000, description="Largest page a caller may ask for.")
    pool_size: int = Field(10, ge=1, description="Database connections kept open, a database.")
    ingest_uploads: bool = Field(
        True,
        description="Ingest posted recordings in the service's own process; false leaves that to "
        "`python -m warehouse.uploads --watch`.",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may call the service, such as https://dashboard.example."
    )
    requests_per_minute: int = Field(
        6000, ge=0, description="Requests a minute that one key, token or session may make; 0 for any number."
    )
    max_requests_at_once: int = Field(
        256, ge=1, description="Requests that are answered or wait at a time; more are a 503 with Retry-After at once."
    )
    max_body_mb: float = Field(16.0, gt=0, description="Largest body of a request, but for POST /recordings.")
    max_upload_mb: float = Field(1024.0, gt=0, description="Largest body of POST /recordings, and largest unpacked.")
    max_upload_files: int = Field(100, ge=1, description="Most files in one POST /recordings, archives unpacked.")
    body_timeout_s: float = Field(30.0, gt=0, description="Longest wait for the next part of a request's body.")
    query_timeout_s: float = Field(30.0, gt=0, description="Longest a database query of a request may take.")
    session_hours: float = Field(10.0, gt=0, le=168, description="How long a sign-in of the page lasts.")
    secure_cookie: bool = Field(
        False, description="Send the session cookie over https only; always so when the request itself came over https."
    )
    max_strip_s: float = Field(3600.0, gt=0, description="Longest strip POST /score takes.")
    max_score_windows: int = Field(1024, ge=1, description="Most windows POST /score takes at a time.")
    review_band: float = Field(
        0.3, ge=0, description="A score this near to the threshold needs a human; 0 for none. Scores are in decades."
    )
    min_familiarity: float = Field(
        0.5, ge=0, le=1, description="A beat less like the patient's own typical beat needs a human; 0 for none."
    )
    min_quality: float = Field(0.5, ge=0, le=1, description="A beat of lower signal quality needs a human; 0 for none.")


class MonitoringSettings(_Section):
    """Metrics for Prometheus."""

    host: str = Field(
        "127.0.0.1",
        description="Address that the scorer's and the exporter's metrics are served on. They name no patient.",
    )
    scorer_port: int = Field(
        9101,
        ge=0,
        le=65535,
        description="Port of `pipelines.score --watch`; 0 serves none. The API's are at its /metrics.",
    )
    exporter_port: int = Field(9102, ge=1, le=65535, description="Port of `python -m monitoring.exporter`.")
    drift_port: int = Field(9103, ge=0, le=65535, description="Port of `monitoring.drift --watch`; 0 serves none.")
    textfile_dir: Path | None = Field(
        None,
        description="Folder of node-exporter's textfile collector: ingest, training and batch scoring write their "
        "metrics there when they end.",
    )
    pushgateway: str | None = Field(
        None, description="Pushgateway that they push to as well, such as http://pushgateway:9091."
    )
    cache_s: float = Field(
        15.0, gt=0, le=600, description="Figures read from the databases are as old as this at most, however many ask."
    )
    recent_hours: float = Field(
        24.0, gt=0, description="What counts as recent in figures of burden, time and deferral."
    )
    review_days: float = Field(7.0, gt=0, description="Days of reviews that the recent precision is of.")
    review_pause_s: float = Field(
        300.0, gt=0, description="A reviewer who says nothing for longer than this was not reviewing."
    )
    certificates: tuple[Path, ...] = Field(
        (), description="PEM certificates whose expiry is watched, such as the reverse proxy's."
    )


class Settings(BaseSettings):
    """All settings. Field docs are in `configs/default.yaml` and `docs/configuration.md`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    data_dir: Path = Field(Path(".data"), description="Databases, models, caches and runs live here.")
    warehouse_url: str | None = Field(
        None, description="PostgreSQL of the warehouse, postgresql://user:password@host/name; embedded when unset."
    )
    results_url: str | None = Field(None, description="PostgreSQL of the results; embedded when unset.")
    pseudonym_key: SecretStr | None = Field(
        None, description="Key of the HMAC that makes patient pseudonyms; kept in data_dir/pseudonym.key when unset."
    )
    site: str = Field(
        "main",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Hospital or tenant that recordings ingested here belong to; others never see them.",
    )
    mitdb_dir: Path | None = Field(None, description="Folder with MIT-BIH records for the demo and the tests.")
    log_level: str = Field("WARNING", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")
    features: FeatureSpec = Field(default_factory=FeatureSpec, description="Window geometry.")
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    bootstrap: BootstrapSettings = Field(default_factory=BootstrapSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    scoring: ScoringSettings = Field(default_factory=ScoringSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    release: ReleaseSettings = Field(default_factory=ReleaseSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    retrain: RetrainSettings = Field(default_factory=RetrainSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    oidc: OidcSettings = Field(default_factory=OidcSettings)
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    privacy: PrivacySettings = Field(default_factory=PrivacySettings)

    @property
    def models_dir(self) -> Path:
        """Where the Pusher puts versions: `<models_dir>/<model_name>/<version>/`."""
        return self.data_dir / "models"


def load_settings(profile: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Builds settings from the environment, a profile and overrides (which win over both).

    Args:
        profile: a profile's name or a YAML file; `ECG_PROFILE`, then `default`, when None.
        overrides: values of an entry point's own options, nested as the settings are; None values are skipped.

    Raises:
        ConfigurationError: a key is unknown or a value is out of range; names the key and where it was set.
    """
    chosen = str(profile or os.environ.get(PREFIX + "PROFILE") or "default")
    path = Path(chosen) if chosen.endswith((".yaml", ".yml")) else PROFILES_DIR / f"{chosen}.yaml"
    values = _read_profile(path)
    _refuse_unknown_environment()
    from_files = _read_value_files()
    without_files = {name.lower(): value for name, value in _environment().items() if not name.endswith(FILE_SUFFIX)}

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            assert isinstance(env_settings, EnvSettingsSource)
            env_settings.env_vars = without_files | {name.lower(): value for name, value in from_files.items()}
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=values)

    try:
        return Layered(**_without_none(overrides or {}))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        variable = PREFIX + key.upper().replace(".", "__")
        given = next((name for name in (variable, variable + FILE_SUFFIX) if name in _environment()), None)
        where = f"environment variable {given}" if given else f"{path}, key {key}"
        raise ConfigurationError(where, first["msg"], "See docs/configuration.md for every key.") from error


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def _read_value_files() -> dict[str, str]:
    """Values of the settings whose variables name a file, by the variable without `_FILE`."""
    values = {}
    for name, file in sorted(_environment().items()):
        if not name.endswith(FILE_SUFFIX) or not file:
            continue
        variable = name.removesuffix(FILE_SUFFIX)
        if _environment().get(variable):
            raise ConfigurationError(f"environment variables {variable} and {name}", "are both set", "Set one of them.")
        try:
            values[variable] = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise ConfigurationError(
                f"environment variable {name}", f"{file} cannot be read ({reason})", "Name a file with the value."
            ) from error
        if not values[variable]:
            raise ConfigurationError(f"environment variable {name}", f"{file} is empty", "Put the value into it.")
    return values


def _refuse_unknown_environment() -> None:
    """pydantic-settings ignores unknown top-level variables; a typo must not be silent."""
    known = {PREFIX + field.upper() for field in Settings.model_fields} | {PREFIX + "PROFILE"}
    for name in sorted(_environment()):
        if name.removesuffix(FILE_SUFFIX).split("__", 1)[0] not in known:
            raise ConfigurationError(
                f"environment variable {name}", "is not a setting", f"Known: {', '.join(sorted(known))}."
            )


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        names = ", ".join(sorted(p.stem for p in PROFILES_DIR.glob("*.yaml")))
        raise ConfigurationError(
            str(path), "no such profile", f"Profiles here: {names}; or give a .yaml file."
        ) from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(str(path), f"cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(str(path), "must hold keys and values", "See configs/default.yaml.")
    return values
