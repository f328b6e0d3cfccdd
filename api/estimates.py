"""Shares with their intervals, as the service answers them."""

from api.schemas.statistics import Estimate
from monitoring import estimates
from warehouse.store.feedback_queries import Judged


def precision_of(confirmed: int, rejected: int) -> Estimate:
    """As `monitoring.estimates.precision_of`."""
    return Estimate(**vars(estimates.precision_of(confirmed, rejected)))


def recall_of(judged: Judged) -> Estimate:
    """As `monitoring.estimates.recall_of`."""
    return Estimate(**vars(estimates.recall_of(judged)))
