"""What expires: API keys, and certificates of the files that the settings name."""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges


def figures(context: FigureContext) -> Iterable[Metric]:
    """No key's name or number is told, only roles."""
    gauges = Gauges()
    gauges.describe("ecg_api_keys", "API keys that are not revoked.", "role", "state")
    gauges.describe("ecg_api_key_next_expiry_timestamp_seconds", "When the next valid key of a role expires.", "role")
    gauges.describe("ecg_certificate_expiry_timestamp_seconds", "When a certificate expires.", "file")
    gauges.describe("ecg_certificate_readable", "1 if the file holds a PEM certificate.", "file")
    for row in context.stores.results.key_expiry():
        gauges.set("ecg_api_keys", row["valid"], row["role"], "valid")
        gauges.set("ecg_api_keys", row["expired"], row["role"], "expired")
        gauges.set("ecg_api_key_next_expiry_timestamp_seconds", row["next_expiry"], row["role"])
    for path in context.settings.monitoring.certificates:
        expiry = _expiry(path)
        gauges.set("ecg_certificate_readable", expiry is not None, path.name)
        gauges.set("ecg_certificate_expiry_timestamp_seconds", expiry, path.name)
    return gauges.families()


def _expiry(path: Path) -> float | None:
    """The earliest end of the certificates in a file; None when it holds none."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    return min(one.not_valid_after_utc.timestamp() for one in found)
