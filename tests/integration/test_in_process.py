"""A model of an earlier release is named, not run."""

import pytest
from saved_models import save_model

from configs import contract
from configs.errors import ModelUnavailableError
from serving.in_process import InProcessModelClient

pytestmark = pytest.mark.integration


def test_a_model_with_other_rr_columns_is_refused_with_what_to_do(tmp_path, monkeypatch):
    save_model(tmp_path / "1")
    assert InProcessModelClient(tmp_path / "1").model_version == 1
    monkeypatch.setattr(contract, "RR_COLUMNS", (*contract.RR_COLUMNS, "rr_new"))
    with pytest.raises(ModelUnavailableError, match=r"takes 5 RR columns, not 6.*Train again"):
        InProcessModelClient(tmp_path / "1")
