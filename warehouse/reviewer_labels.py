"""Reviewers' labels on their way from the results database, where people review, to the warehouse, for training.

The two databases share no transaction. A review state remembers which revision the warehouse was told; telling it the
same twice changes nothing. So a warehouse that is away misses nothing: the next delivery brings it.
"""

from warehouse.store import Stores

BLOCK = 1000


def deliver_labels(stores: Stores) -> int:
    """Tells the warehouse all it was not told yet; returns how many labels that were.

    Raises:
        DatabaseUnavailableError: a database does not answer; what was delivered stays.
    """
    n = 0
    while pending := stores.results.undelivered_labels(BLOCK):
        labels = []
        for row in pending:
            aami_class, artefact = row["state"].training_label()
            labels.append(
                {
                    "window_id": row["window_id"],
                    "revision": row["revision"],
                    "aami_class": aami_class,
                    "artefact": artefact,
                }
            )
        stores.warehouse.add_labels(labels)
        stores.results.mark_delivered({row["window_id"]: row["revision"] for row in pending})
        n += len(pending)
    return n
