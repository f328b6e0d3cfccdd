"""What a command leaves for Prometheus when it ends: a file for node-exporter's textfile collector, or a push.

A command that runs for minutes and ends is not there to be scraped. What it says of its last run stays until the next;
when it last succeeded stays through runs that fail.
"""

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from urllib.error import URLError

from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

from configs import cli
from configs.memory import peak_memory_bytes
from configs.settings import MonitoringSettings


class CommandMetrics:
    """Gauges of one run; each is given when its number is known."""

    def __init__(self, command: str) -> None:
        self.registry = CollectorRegistry()
        self._command = command
        self._gauges: dict[str, Gauge] = {}

    def set(self, name: str, text: str, value: float, **labels: str) -> None:
        """Sets a gauge, with the command as a label beside those given; a name always has the same labels."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, text, ("command", *labels), registry=self.registry)
        self._gauges[name].labels(self._command, *labels.values()).set(value)


@contextlib.contextmanager
def command_metrics(command: str, settings: MonitoringSettings) -> Iterator[CommandMetrics]:
    """Measures the block, and leaves its metrics where the settings say, however it ends.

    That they cannot be left is said in a line, and changes nothing for the command.

    Args:
        command: ingest, train or score.
    """
    metrics = CommandMetrics(command)
    started, began = time.monotonic(), time.time()
    code: object = 1
    try:
        yield metrics
        code = 0
    except SystemExit as end:
        code = end.code or 0
        raise
    finally:
        _measure(metrics, time.monotonic() - started, began)
        metrics.set("ecg_command_success", "1 if the last run ended with exit code 0.", code == 0)
        _leave(metrics.registry, command, settings)
        if code == 0:
            success = CommandMetrics(command)
            name = "ecg_command_last_success_timestamp_seconds"
            success.set(name, "When a run last ended with exit code 0.", time.time())
            _leave(success.registry, f"{command}_success", settings)


def _measure(metrics: CommandMetrics, seconds: float, began: float) -> None:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics.set("ecg_command_duration_seconds", "Wall time of the last run.", seconds)
    metrics.set("ecg_command_started_timestamp_seconds", "When the last run began.", began)
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    metrics.set("ecg_command_cpu_seconds", "Processor time of the last run, with its worker processes.", cpu)
    peak = "Largest resident memory of a process of the last run."
    metrics.set("ecg_command_peak_memory_bytes", peak, peak_memory_bytes())
    metrics.set("ecg_command_load_average", "Processes that ran or waited to, in its last minute.", os.getloadavg()[0])


def _leave(registry: CollectorRegistry, name: str, settings: MonitoringSettings) -> None:
    if settings.textfile_dir is not None:
        try:
            settings.textfile_dir.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(settings.textfile_dir / f"ecg_{name}.prom"), registry)
        except OSError as error:
            cli.note(f"metrics not written: {settings.textfile_dir}: {error.strerror} (monitoring.textfile_dir)")
    if settings.pushgateway is not None:
        try:
            pushadd_to_gateway(settings.pushgateway, job=f"ecg_{name}", registry=registry, timeout=5)
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            cli.note(f"metrics not pushed: {settings.pushgateway}: {reason} (monitoring.pushgateway)")
