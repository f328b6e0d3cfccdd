"""What the operations are handed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool

from api.access import Access, Principal, RateLimits
from api.limits import UnderWay
from api.model_provider import ModelProvider
from api.paging import Clock, PageTokens
from api.problems import RefusedError, no_such_parameter, query_parameters
from api.uploads import Uploads
from configs.settings import ApiSettings
from warehouse.store import Stores
from warehouse.store.connection import enter_site


@dataclass(frozen=True)
class Services:
    """The service's collaborators.

    Attributes:
        clock: now, timezone-aware.
        registry: where metrics are registered and read.
        access: tells who asks.
        limits: how often they may.
        uploads: takes recordings and ingests them; None where there is no place for them.
        detector: of R peaks in strips.
        under_way: how many requests are being answered.
    """

    stores: Stores
    models: ModelProvider
    settings: ApiSettings
    clock: Clock
    registry: CollectorRegistry
    access: Access
    limits: RateLimits
    uploads: Uploads | None = None
    detector: str = "neurokit"
    under_way: UnderWay = field(default_factory=UnderWay)

    @property
    def page_tokens(self) -> PageTokens:
        return PageTokens(self.clock)


async def _services(request: Request) -> Services:  # async: it does nothing a thread would be needed for
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _optional_principal(request: Request, services: ServicesDep) -> Principal | None:
    found = services.access.known(request)
    if found is None:
        found = await run_in_threadpool(services.access.principal, request)
    if found is not None:
        services.limits.take(found.credential)
        enter_site(found.site)
    return found


OptionalPrincipalDep = Annotated[Principal | None, Depends(_optional_principal)]


async def _principal(found: OptionalPrincipalDep) -> Principal:
    return _someone(found)


PrincipalDep = Annotated[Principal, Depends(_principal)]


async def signed_in(request: Request) -> Principal:
    """Who sent a request, for an operation that takes no dependencies; raises as they do."""
    return _someone(await _optional_principal(request, await _services(request)))


async def _known_parameters(request: Request, found: OptionalPrincipalDep) -> None:
    """Refuses what an operation would not look at: with a slip of the pen in a filter, all is exported."""
    if found is None or not request.query_params:
        return
    known = query_parameters(request)
    for name in request.query_params:
        if name not in known:
            raise no_such_parameter(request, name)


#: Of every operation but those that anybody may ask.
KNOWN_PARAMETERS = Depends(_known_parameters)


async def _form_principal(request: Request, services: ServicesDep) -> Principal:
    found = _someone(await run_in_threadpool(services.access.principal, request, check_csrf_header=False))
    services.limits.take(found.credential)
    enter_site(found.site)
    return found


#: Of a form post of the page, which carries the session's token in a field: `access.check_csrf` is the operation's.
FormPrincipalDep = Annotated[Principal, Depends(_form_principal)]


def _someone(found: Principal | None) -> Principal:
    if found is None:
        raise RefusedError(
            "unauthenticated",
            "Send an API key or an OIDC token in the header Authorization: Bearer.",
            {"WWW-Authenticate": "Bearer"},
        )
    return found


def _having(scope: str) -> Callable[..., Any]:
    async def principal(found: PrincipalDep) -> Principal:
        found.require(scope)
        return found

    return principal


Reader = Annotated[Principal, Depends(_having("read"))]
Scorer = Annotated[Principal, Depends(_having("score"))]
Reviewer = Annotated[Principal, Depends(_having("review"))]
Uploader = Annotated[Principal, Depends(_having("upload"))]
Exporter = Annotated[Principal, Depends(_having("export"))]
Administrator = Annotated[Principal, Depends(_having("admin"))]
