"""Both databases with recordings, and small SavedModels pushed into a folder of models: releases without training."""

from saved_models import SPEC, save_model, write_warmup_of
from store_world import add_recording

from configs.settings import load_settings
from serving.model_files import model_digest

NAME = "ecg_autoencoder"


class ReleaseWorld:
    """Pushes versions and counts what is in the tables."""

    def __init__(self, stores, data_dir, **settings):
        self.stores = stores
        self.settings = load_settings(
            overrides={
                "data_dir": data_dir, "warehouse_url": stores.warehouse.url, "results_url": stores.results.url,
                "scoring": {"block_windows": 64}, **settings,
            }
        )  # fmt: skip

    @property
    def env(self):
        """What a command needs to work on this world."""
        return {
            "ECG_DATA_DIR": str(self.settings.data_dir),
            "ECG_WAREHOUSE_URL": self.stores.warehouse.url,
            "ECG_RESULTS_URL": self.stores.results.url,
            "ECG_SCORING__BLOCK_WINDOWS": "64",
        }

    def push(self, version, **model):
        """A version whose score is `scale` times the samples' root mean square: random samples are at some 19 mV."""
        directory = save_model(self.settings.models_dir / NAME / str(version), **model)
        write_warmup_of(directory, NAME)
        self.stores.results.register_model(
            {
                "model_version": version, "model_name": NAME, "feature_version": SPEC.digest, "threshold": 1.5,
                "feature_spec": SPEC.model_dump(mode="json"), "digest": model_digest(directory), "data_span": 1,
                "run_key": f"run {version}", "card": {"metrics": {"roc_auc": 0.9, "average_precision": 0.5}},
            }
        )  # fmt: skip
        return directory

    def add(self, name, n_beats=100, label="N"):
        return add_recording(self.stores, name, n_beats, label=label)

    def count(self, table, model_version):
        import sqlalchemy as sa

        query = sa.select(sa.func.count()).select_from(table).where(table.c.model_version == model_version)
        with self.stores.results.transaction() as connection:
            return connection.execute(query).scalar_one()
