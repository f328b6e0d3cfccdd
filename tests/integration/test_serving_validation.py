"""No model that cannot be served passes the check before the push, and those that pass carry warm-up requests."""

import json
import shutil
import time

import numpy as np
import pytest
from saved_models import THRESHOLD, random_block, save_model, write_examples

from configs import contract
from configs.errors import EXIT_NOT_BLESSED, ModelUnavailableError
from serving.in_process import InProcessModelClient
from serving.model_files import version_dir
from serving.validation import Report, _validate
from serving.warmup import drawn_windows, read_warmup, write_warmup

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("examples") / "part-0.gz", random_block(12))


def failures_of(directory, examples, max_load_s=60.0, max_latency_ms=1000.0):
    report = Report()
    _validate(report, directory, [examples], 8, max_load_s, max_latency_ms)
    return report.failures


def no_asset(path):
    vocabulary = path.parent / "classes.txt"
    vocabulary.write_text("N\n")
    save_model(path, asset=vocabulary)
    (path / "assets" / "classes.txt").unlink()


def half_copied(path):
    save_model(path)
    (path / "variables" / "variables.index").unlink()


def damaged(path):
    save_model(path)
    (path / "saved_model.pb").write_bytes(b"\xff" * 100)


def weights_cut_off(path):
    save_model(path)
    data = path / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1])


BROKEN = {
    "NaN weights": (lambda path: save_model(path, scale=float("nan")), "weights scale are not finite"),
    "signature missing": (lambda path: save_model(path, signatures=["serving_default"]), "signature score is missing"),
    "output missing": (lambda path: save_model(path, outputs=(contract.LEAD,)), "score: it has no output lead"),
    "asset missing": (no_asset, "assets/classes.txt is missing"),
    "half copied": (half_copied, "variables/variables.index is missing"),
    "nothing there": (lambda path: path.mkdir(), "saved_model.pb is missing"),
    "damaged": (damaged, "saved_model.pb is damaged"),
    "weights cut off": (weights_cut_off, "variables cannot be read"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_model_is_refused_with_the_reason(tmp_path, examples, broken):
    make, words = BROKEN[broken]
    make(tmp_path / "1")
    found = failures_of(tmp_path / "1", examples)
    assert words in "\n".join(found)
    assert not (tmp_path / "1" / "assets.extra").exists()


def test_budgets(tmp_path, examples):
    save_model(tmp_path / "1", wide=600)
    assert failures_of(tmp_path / "1", examples) == []
    (slow,) = failures_of(tmp_path / "1", examples, max_latency_ms=0.01)
    assert "for one window (p99 of 100), 0.01 ms are allowed" in slow
    (late,) = failures_of(tmp_path / "1", examples, max_load_s=0.001)
    assert "s to load, 0.001 s are allowed" in late


def test_no_examples_is_a_reason(tmp_path):
    save_model(tmp_path / "1")
    empty = write_examples(tmp_path / "none.gz", random_block(0))
    assert failures_of(tmp_path / "1", empty) == [f"there are no examples in {empty}"]


def test_the_command_checks_in_a_fresh_process(tmp_path, examples, run_cli):
    bad = save_model(tmp_path / "2", scale=float("nan"))
    report = tmp_path / "report.json"
    ran = run_cli("serving.validation", bad, "--examples", examples, "--warmup-for", "m", "--json", report)
    assert ran.code == EXIT_NOT_BLESSED
    assert "weights scale are not finite" in ran.stderr
    assert json.loads(report.read_text())["failures"][0] == "weights scale are not finite"
    assert list(read_warmup(bad)) == []


def test_a_version_is_warm_when_it_is_loaded(tmp_path):
    save_model(tmp_path / "1")
    inputs = random_block(32).model_inputs()
    drawn = drawn_windows({name: (None, *values.shape[1:]) for name, values in inputs.items()}, 32)
    assert {name: (v.shape, v.dtype) for name, v in drawn.items()} == {k: (v.shape, v.dtype) for k, v in inputs.items()}
    write_warmup(tmp_path / "1", "m", drawn)
    one = {name: values[:1] for name, values in inputs.items()}

    def milliseconds(client):
        started = time.perf_counter()
        client.score(one)
        return (time.perf_counter() - started) * 1000

    firsts = []
    for _ in range(3):
        client = InProcessModelClient(tmp_path / "1")
        firsts.append(milliseconds(client))
    steady = np.percentile([milliseconds(client) for _ in range(200)], 99)
    assert np.median(firsts) < max(2 * steady, 2.0)
    assert client.score(inputs).verdict.tolist() == (client.score(inputs).score >= THRESHOLD).tolist()


def test_a_half_copied_version_is_not_loaded(tmp_path):
    save_model(tmp_path / "m" / "1")
    assert version_dir(tmp_path, "m", 1) == tmp_path / "m" / "1"
    (tmp_path / "m" / "1" / "saved_model.pb").unlink()
    with pytest.raises(ModelUnavailableError, match=r"is not whole .*saved_model.pb is missing"):
        version_dir(tmp_path, "m", 1)
    shutil.rmtree(tmp_path / "m" / "1")
    with pytest.raises(ModelUnavailableError, match="is not in"):
        version_dir(tmp_path, "m", 1)
