"""Errors under /ui: pages in the reader's language, whatever went wrong and wherever."""

from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest
import sqlalchemy as sa
from api_world import Clock, HalvingModel, Scored, World, serving, until
from ui_world import add_reader

from api.ui.i18n import LANGUAGES, told
from configs.settings import ApiSettings
from serving.model_client import Explanation, FloatArray
from warehouse.store import Stores
from warehouse.store.results import Results

pytestmark = pytest.mark.integration

PORTUGUESE = {"Accept-Language": "pt-BR,en;q=0.5"}
#: Words that no Portuguese sentence of these pages has.
ENGLISH = (" the ", " does ", " is ", " not ", "Send", "GET /", "exists", "anomaly ", "recording ")


class BrokenModel(HalvingModel):
    """Raises what nobody expects."""

    def explain(self, inputs: Mapping[str, FloatArray]) -> Explanation:
        raise ZeroDivisionError("a secret of the inside")


@pytest.fixture(scope="module")
def client(world: World, scored: Scored) -> Iterator[httpx.Client]:
    with serving(world.stores, world.clock) as client:
        yield client


def check_page(answer: httpx.Response, status: int, *, says: str) -> None:
    """It is a page in Portuguese, with what to do, and nothing of it is English."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert '<html lang="pt"' in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert says in answer.text
    main = answer.text[answer.text.index("<h1>") : answer.text.index("</section>")]
    assert [word for word in ENGLISH if word in main] == []


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/ui/nowhere", 404, "/ui/nowhere não existe."),
        ("/ui/static/no.css", 404, "não existe"),
        ("/ui/recordings/999999", 404, "O registo 999999 não existe. A página Registos mostra os que há."),
        ("/ui/anomalies/1-5", 404, " 5 não existe."),
        ("/ui/anomalies/x", 422, "Isto não é o identificador de uma anomalia."),
        ("/ui/anomalies/9-5", 404, "não existe"),
        ("/ui/recordings/1?start_s=nan", 422, "Um valor não pode ser usado (start_s)."),
        ("/ui/recordings/abc", 422, "Um valor não pode ser usado (recording_id)."),
    ],
)
def test_what_does_not_exist_or_cannot_be(client: httpx.Client, path: str, status: int, says: str) -> None:
    check_page(client.get(path, headers=PORTUGUESE), status, says=says)
    english = client.get(path)
    assert (english.status_code, '<html lang="en"' in english.text) == (status, True)


def test_what_cannot_be_posted(client: httpx.Client, scored: Scored) -> None:
    check_page(client.request("DELETE", "/ui", headers=PORTUGUESE), 405, says="Esta página não aceita")
    path = f"/ui/anomalies/{scored.expected[0]['id']}/review"
    post = {"data": {"verdict": "reject", "label": "V"}, "headers": PORTUGUESE}
    check_page(client.post(path, **post), 422, says="A classe V não condiz com a decisão.")
    check_page(client.post(path, data={}, headers=PORTUGUESE), 422, says="Falta a decisão.")
    long = {"verdict": "confirm", "comment": "x" * 3000}
    check_page(client.post(path, data=long, headers=PORTUGUESE), 422, says="mais de 2000 caracteres")
    check_page(client.post(path, content=b"x" * 70_000, headers=PORTUGUESE), 413, says="grande")
    check_page(client.post("/ui/reviews/77/undo", data={}, headers=PORTUGUESE), 404, says="A revisão 77 não existe.")


def test_what_nobody_expected(world: World, scored: Scored) -> None:
    path = f"/ui/anomalies/{scored.expected[0]['id']}"
    with serving(world.stores, world.clock, lambda model: BrokenModel(model.model_version)) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        answer = client.get(path, headers=PORTUGUESE)
        check_page(answer, 500, says="Falhou algo que não devia falhar.")
        assert "secret" not in answer.text
        assert client.get("/ui", headers=PORTUGUESE).status_code == 200
        problem = client.get(path.removeprefix("/ui"))
        assert problem.status_code == 500
        assert problem.headers["content-type"] == "application/problem+json"


def test_no_right_and_no_key(new_stores: Callable[[], Stores]) -> None:
    stores = new_stores()
    device = add_reader(stores, "holter", role="device")
    with serving(stores, Clock(), settings=ApiSettings(requests_per_minute=1)) as client:
        assert client.get("/ui", headers=PORTUGUESE).status_code == 303
        wrong = client.post("/ui/sign-in", data={"key": "ecg_wrong"}, headers=PORTUGUESE)
        assert (wrong.status_code, "Isto não é uma chave inteira" in wrong.text) == (401, True)
        with_key = {**PORTUGUESE, "Authorization": f"Bearer {device}"}
        check_page(client.get("/ui", headers=with_key), 403, says="holter (device) não pode fazer isto")
        many = client.get("/ui", headers=with_key)
        check_page(many, 429, says="Mais de 1 pedidos por minuto.")
        assert int(many.headers["retry-after"]) > 0


def test_a_database_that_goes_away(world: World, scored: Scored) -> None:
    closed = sa.make_url(world.stores.results.url).set(host="127.0.0.1", port=1, query={})
    gone = Results.open(closed.render_as_string(hide_password=False))
    with serving(Stores(world.stores.warehouse, gone), world.clock) as client:
        answer = client.get("/ui", headers=PORTUGUESE)
        check_page(answer, 503, says="Uma base de dados não responde.")
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("recording 9: does not exist. GET /recordings lists them.", "recording 9: does not exist."),
        ("anomaly_id: is none. Send an id as GET /anomalies gives it.", None),
    ],
)
def test_what_programs_may_ask_is_not_told_to_readers(detail: str, shown: str | None) -> None:
    assert told("en", {"type": "urn:ecg:problem:not-found", "detail": detail}) == (shown or detail)


def test_every_type_of_problem_has_words() -> None:
    from api import problems

    kinds = [*problems._OF_ERROR.values(), *problems._REFUSALS.values()]
    slugs = {kind.slug for kind in kinds} | {"unexpected", "not-ready", "no-such-path", "method-not-allowed"}
    for language in LANGUAGES:
        for slug in slugs:
            problem = {"type": f"urn:ecg:problem:{slug}", "detail": "something new", "request_id": "7"}
            assert ("something new" in told(language, problem)) == (language == "en")
