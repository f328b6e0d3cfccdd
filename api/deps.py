"""What the operations are handed."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from api.model_provider import ModelProvider
from api.paging import Clock, PageTokens
from configs.settings import ApiSettings
from warehouse.store import Stores


@dataclass(frozen=True)
class Services:
    """The service's collaborators.

    Attributes:
        clock: now, timezone-aware.
        registry: where metrics are registered and read.
    """

    stores: Stores
    models: ModelProvider
    settings: ApiSettings
    clock: Clock
    registry: CollectorRegistry

    @property
    def page_tokens(self) -> PageTokens:
        return PageTokens(self.clock)


async def _services(request: Request) -> Services:  # async: it does nothing a thread would be needed for
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]
