"""What a command leaves for Prometheus when it ends."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prometheus_client.parser import text_string_to_metric_families

from configs.command_metrics import command_metrics
from configs.settings import MonitoringSettings

pytestmark = pytest.mark.unit


def read(folder):
    return {
        (sample.name, sample.labels["command"]): sample.value
        for file in folder.glob("*.prom")
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def run(settings, end=None):
    with command_metrics("train", settings) as metrics:
        metrics.set("ecg_train_last_stage_seconds", "Wall time.", 3.5, stage="Trainer")
        if end is not None:
            raise end


def test_a_run_leaves_a_file(tmp_path):
    tmp_path = tmp_path / "made"
    run(MonitoringSettings(textfile_dir=tmp_path))
    found = read(tmp_path)
    assert found["ecg_command_success", "train"] == 1
    assert found["ecg_train_last_stage_seconds", "train"] == 3.5
    assert found["ecg_command_duration_seconds", "train"] >= 0
    assert found["ecg_command_peak_memory_bytes", "train"] > 1e7
    assert found["ecg_command_last_success_timestamp_seconds", "train"] > 1.7e9
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ecg_train.prom", "ecg_train_success.prom"]


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt(), ValueError("x")])
def test_when_it_last_succeeded_stays_through_runs_that_fail(tmp_path, end):
    settings = MonitoringSettings(textfile_dir=tmp_path)
    run(settings)
    before = read(tmp_path)["ecg_command_last_success_timestamp_seconds", "train"]
    with pytest.raises(type(end)):
        run(settings, end)
    after = read(tmp_path)
    assert after["ecg_command_success", "train"] == 0
    assert after["ecg_command_last_success_timestamp_seconds", "train"] == before


def test_nothing_is_left_where_nothing_is_set():
    run(MonitoringSettings())


def test_metrics_that_cannot_be_left_do_not_fail_the_command(tmp_path, capsys):
    (tmp_path / "file").touch()
    run(MonitoringSettings(textfile_dir=tmp_path / "file", pushgateway="http://127.0.0.1:9"))
    said = capsys.readouterr().err
    assert "monitoring.textfile_dir" in said
    assert "monitoring.pushgateway" in said


def test_a_run_is_pushed():
    pushed = {}

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self):
            pushed[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        run(MonitoringSettings(pushgateway=f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
        thread.join()
    assert list(pushed) == ["/metrics/job/ecg_train", "/metrics/job/ecg_train_success"]
    assert 'ecg_command_success{command="train"} 1.0' in pushed["/metrics/job/ecg_train"]
