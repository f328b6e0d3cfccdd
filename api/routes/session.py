"""Signing in and out of a browser."""

from fastapi import APIRouter, Request, Response

from api.access import COOKIE, Principal, check_csrf, set_session_cookie
from api.deps import PrincipalDep, ServicesDep
from api.openapi import answers
from api.schemas.service import Session, SessionRequest

router = APIRouter(prefix="/session", tags=["session"])


@router.post("", status_code=201, responses=answers(422, 503))
def sign_in(services: ServicesDep, request: Request, response: Response, body: SessionRequest) -> Session:
    """Opens a session with an API key or an OIDC token. The cookie it sets cannot be read by scripts."""
    cookie, principal = services.access.sign_in(body.key.strip())
    set_session_cookie(request, response, services.settings, cookie)
    return _session(principal)


@router.get("", responses=answers(503))
def get_session(principal: PrincipalDep) -> Session:
    """Who is signed in, with the token that requests of a page must carry."""
    return _session(principal)


@router.delete("", status_code=204, responses=answers(503))
def sign_out(services: ServicesDep, request: Request, response: Response) -> None:
    """Ends the session, if there is one."""
    cookie = request.cookies.get(COOKIE)
    principal = services.access.session(cookie) if cookie else None
    if cookie and principal is not None:
        check_csrf(principal, request.headers.get("X-CSRF-Token", ""))
        services.access.sign_out(cookie)
    response.delete_cookie(COOKIE)


def _session(principal: Principal) -> Session:
    return Session(
        name=principal.name,
        role=principal.role,
        site=principal.site,
        scopes=sorted(principal.scopes),
        csrf_token=principal.csrf_token,
    )
