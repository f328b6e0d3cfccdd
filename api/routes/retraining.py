"""Attempts to train a successor, and alerts that ask for one. Training itself is `python -m pipelines.retrain`."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from api.answers import in_utc
from api.deps import Administrator, ServicesDep
from api.openapi import answers
from api.schemas.retraining import AlertGroup, Requested, Retraining, RetrainingList, RetrainingRequest

router = APIRouter(prefix="/retraining", tags=["models"])


@router.get("", responses=answers(422, 503))
def list_retrainings(
    services: ServicesDep,
    principal: Administrator,
    limit: Annotated[int, Query(ge=1, le=200, description="At most so many.")] = 20,
) -> RetrainingList:
    """Attempts to train a successor, newest first, step by step with reasons and numbers; and open requests."""
    results = services.stores.results
    return RetrainingList(
        items=[Retraining.model_validate(in_utc(row)) for row in results.retrainings(limit)],
        requests=[RetrainingRequest.model_validate(in_utc(row)) for row in results.retraining_requests(only_open=True)],
    )


@router.post(
    "/alerts",
    status_code=202,
    responses=answers(422, 503) | {200: {"model": Requested, "description": "Nothing new: resolved, or open already."}},
)
def receive_alerts(services: ServicesDep, principal: Administrator, body: AlertGroup, response: Response) -> Requested:
    """Takes Alertmanager's webhook: alerts that fire become a request, which the next `pipelines.retrain` takes up.

    One that is open already for the same group stays as it is, however often Alertmanager repeats itself; alerts that
    are resolved ask for nothing. Whether anything is trained is the policy's (`retrain.*`): cool-down and limit hold.
    """
    firing = [alert for alert in body.alerts if alert.status == "firing"]
    if body.status != "firing" or not firing:
        response.status_code = 200
        return Requested(request=None, created=False)
    names = sorted({alert.labels.get("alertname", "an alert without a name") for alert in firing})
    told = [text for alert in firing if (text := alert.annotations.get("summary", ""))]
    reason = f"alert {', '.join(names)}" + (f": {told[0]}" if told else "")
    row, created = services.stores.results.request_retraining(
        "alertmanager",
        body.group_key,
        principal.name,
        reason[:2000],
        {"labels": body.common_labels, "alerts": [alert.model_dump(mode="json") for alert in firing[:20]]},
    )
    if not created:
        response.status_code = 200
    return Requested(request=RetrainingRequest.model_validate(in_utc(row)), created=created)
