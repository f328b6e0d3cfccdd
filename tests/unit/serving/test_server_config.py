"""The configuration that TensorFlow Serving is given can be read by its own protos."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

pytestmark = pytest.mark.unit
FOLDER = Path(__file__).parents[3] / "serving" / "config"


def test_models_config_is_a_model_server_config():
    text = (FOLDER / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("ecg_autoencoder", "tensorflow")
