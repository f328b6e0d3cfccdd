"""Database roles on real PostgreSQL: each does its work, and nothing else; the API's sees one site at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from store_world import SPEC, add_model, add_recording, read, scored
from warehouse_help import put_in, sets_of

from configs.errors import ConfigurationError
from configs.settings import Settings, load_settings
from monitoring.figures import GROUPS, FigureContext
from warehouse import roles
from warehouse.reviewer_labels import deliver_labels
from warehouse.store import Stores
from warehouse.store.audit_queries import Act
from warehouse.store.connection import ALL_SITES, at_site
from warehouse.store.database import DatabaseUrls, migrate
from warehouse.store.grants import ROLES
from warehouse.store.records import AnomalyFilter, Beat, Opinion, WindowSet
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse

pytestmark = pytest.mark.integration

PASSWORD = "twelve or more characters"


@pytest.fixture(scope="module")
def owner(new_stores: Callable[[], Stores]) -> Stores:
    stores = new_stores()
    for _ in range(2):  # again changes nothing
        for kind in ("warehouse", "results"):
            roles.apply_roles(getattr(stores, kind), kind, dict.fromkeys(ROLES, PASSWORD))
    return stores


@pytest.fixture(scope="module")
def as_role(owner: Stores) -> Callable[[str], Stores]:
    def connect(role: str) -> Stores:
        def url(database: Warehouse | Results) -> str:
            return sa.make_url(database.url).set(username=role, password=PASSWORD).render_as_string(False)

        return Stores(Warehouse.open(url(owner.warehouse), pool_size=1), Results.open(url(owner.results), pool_size=1))

    return connect


@pytest.fixture(scope="module")
def sites(
    owner: Stores, as_role: Callable[[str], Stores], ingest_settings: Settings, wfdb_folder: Path
) -> dict[str, WindowSet]:
    """Two sites with a recording each, ingested by the ingest's role and scored by the scorer's."""
    found = {}
    ingest = as_role("ecg_ingest")
    for site, name in (("north", "sim000"), ("south", "sim001")):
        settings = ingest_settings.model_copy(update={"site": site})
        assert put_in(ingest, settings, wfdb_folder / name).added == 1
        found[site] = sets_of(owner, settings)[name]
    trainer, scorer = as_role("ecg_trainer"), as_role("ecg_scorer")
    trainer.warehouse.freeze_span(SPEC.digest)
    add_model(owner, 1)
    (model,) = owner.results.models()
    names = (
        "model_version",
        "model_name",
        "feature_version",
        "feature_spec",
        "threshold",
        "digest",
        "data_span",
        "run_key",
        "card",
    )
    trainer.results.register_model({name: getattr(model, name) for name in names})
    run = scorer.results.start_run(1, 0, 0)
    for window_set in found.values():
        block = read(scorer, window_set)
        scorer.results.write_scores(run, 1, window_set, block, scored(np.linspace(0, 3, len(block))))
        scorer.results.summarise(1, window_set, scorer.warehouse.mean_heart_rate_bpm(window_set), gap_beats=1)
    return found


def refused(stores: Warehouse | Results, statement: str) -> bool:
    try:
        with stores.transaction() as connection:
            connection.execute(sa.text(statement))
    except (ConfigurationError, sa.exc.DBAPIError) as error:
        said = str(error)
        return "permission denied" in said or "row-level security" in said or "must be owner" in said
    return False


def count(stores: Warehouse | Results, table: str) -> int:
    with stores.transaction() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_the_api_does_its_work_at_its_site(
    owner: Stores, as_role: Callable[[str], Stores], sites: dict[str, WindowSet]
) -> None:
    api, north = as_role("ecg_api"), sites["north"]
    with at_site("north"):
        (recording,) = api.warehouse.recordings(site="north")
        assert recording["name"] == "sim000"
        rows = api.results.anomalies(AnomalyFilter(1, site="north"), limit=1000)
        assert {row["recording"] for row in rows} == {"sim000"}
        strip = api.warehouse.strip(north, SPEC, 1.0, 2.0)
        assert np.isfinite(strip.samples_mv).all()
        assert len(read(api, north)) == north.n_windows
        beat = Beat(rows[0]["window_id"], north.recording_id, rows[0]["score"], True)
        api.results.add_reviews("north", [beat], Opinion("ana", "reviewer", 1, "confirm", "V", comment="bigeminy"))
        assert deliver_labels(api) == 1
        api.results.add_acts([Act("ana", "reviewer", "north", "read", "/windows/1")])
        assert api.results.summaries([north.recording_id])[0]["scored"] == north.n_windows
    assert len(list(owner.results.all_acts())) == 1 + (owner.results.acts()[0]["action"] != "read")


def test_rows_of_other_sites_are_not_there_even_when_a_query_forgets_to_ask(
    owner: Stores, as_role: Callable[[str], Stores], sites: dict[str, WindowSet]
) -> None:
    api = as_role("ecg_api")
    everything = [
        (api.warehouse, owner.warehouse, name)
        for name in ("patients", "recordings", "window_sets", "windows", "signal_chunks")
    ]
    everything += [(api.results, owner.results, name) for name in (
        "scores", "anomalies", "episodes", "recording_summaries")]  # fmt: skip
    for database, whole, table in everything:
        total = count(whole, table)
        seen = {}
        for site in ("north", "south", "", "elsewhere", ALL_SITES):
            with at_site(site):
                seen[site] = count(database, table)
        assert (seen[""], seen["elsewhere"], seen[ALL_SITES]) == (0, 0, total), table
        assert 0 < seen["north"] < total, table
        assert seen["north"] + seen["south"] == total, table
    south = sites["south"]
    with at_site("north"):
        assert len(read(api, south)) == 0
        row = "'south', 1, 1, false, 'eve', 'admin', 'review'"
        columns = "batch_id, site, window_id, recording_id, model_version, sampled, reviewer, role, action"
        values = row.replace("'south', 1, 1, false", "1, 'south', 1, 1, 1, false")
        assert refused(api.results, f"INSERT INTO reviews ({columns}) VALUES ({values})")


@pytest.mark.parametrize(
    ("role", "database", "statement"),
    [
        ("ecg_api", "results", "INSERT INTO scores SELECT * FROM scores"),
        ("ecg_api", "results", "UPDATE scores SET verdict = true"),
        ("ecg_api", "results", "DELETE FROM reviews"),
        ("ecg_api", "results", "UPDATE model_versions SET threshold = 9"),
        ("ecg_api", "results", "INSERT INTO releases (operator) VALUES ('eve')"),
        ("ecg_api", "results", "INSERT INTO api_keys (name) VALUES ('eve')"),
        ("ecg_api", "results", "UPDATE api_keys SET revoked_at = NULL"),
        ("ecg_api", "results", "SELECT * FROM audit_log"),
        ("ecg_api", "results", "ALTER TABLE anomalies DISABLE ROW LEVEL SECURITY"),
        ("ecg_api", "results", "SET ROLE ecg_scorer"),
        ("ecg_api", "warehouse", "UPDATE windows SET quality = 1"),
        ("ecg_api", "warehouse", "DELETE FROM recordings"),
        ("ecg_api", "warehouse", "SELECT make_partition('windows', now(), now())"),
        ("ecg_scorer", "results", "SELECT comment FROM reviews"),
        ("ecg_scorer", "results", "SELECT * FROM api_keys"),
        ("ecg_scorer", "warehouse", "DELETE FROM windows"),
        ("ecg_trainer", "results", "SELECT comment FROM reviews"),
        ("ecg_trainer", "results", "DELETE FROM scores"),
        ("ecg_trainer", "results", "SELECT secret_sha256 FROM sessions"),
        ("ecg_ingest", "results", "SELECT * FROM scores"),
        ("ecg_ingest", "warehouse", "DELETE FROM windows"),
        ("ecg_ingest", "warehouse", "DROP TABLE windows"),
        ("ecg_monitor", "results", "SELECT comment FROM reviews"),
        ("ecg_monitor", "results", "SELECT secret_sha256 FROM api_keys"),
        ("ecg_monitor", "warehouse", "UPDATE windows SET quality = 1"),
    ],
)
def test_what_a_role_may_not_is_refused(
    as_role: Callable[[str], Stores], role: str, database: str, statement: str
) -> None:
    assert refused(getattr(as_role(role), database), statement)


def test_the_monitor_counts_what_it_needs(as_role: Callable[[str], Stores], sites: dict[str, WindowSet]) -> None:
    monitor = as_role("ecg_monitor")
    assert count(monitor.warehouse, "windows") == sum(one.n_windows for one in sites.values())
    with monitor.results.transaction() as connection:
        assert connection.execute(sa.text("SELECT verdict, label FROM reviews")).all()


def test_the_monitor_reads_every_group_of_figures(
    as_role: Callable[[str], Stores], sites: dict[str, WindowSet]
) -> None:
    context = FigureContext.read(as_role("ecg_monitor"), load_settings())
    for name, figures in GROUPS.items():
        assert list(figures(context)), name


def test_the_exporter_reads_the_servers_figures_and_no_table(owner: Stores, as_role: Callable[[str], Stores]) -> None:
    for name, ours in (("warehouse", owner.warehouse), ("results", owner.results)):
        url = getattr(as_role("ecg_exporter"), name).url
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            sizes = "SELECT sum(pg_database_size(datname)) FROM pg_database"  # of others: pg_monitor's
            assert connection.execute(sa.text(sizes)).scalar_one() > 0
            hidden = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
            assert connection.execute(sa.text(hidden)).scalar_one() == 0
            with ours.transaction() as asking:
                tables = asking.execute(sa.text(_READABLE_BY_EXPORTER)).scalars().all()
            assert tables == []


_READABLE_BY_EXPORTER = """
SELECT relname FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'p', 'v')
AND has_table_privilege('ecg_exporter', oid, 'SELECT, INSERT, UPDATE, DELETE')"""


def test_a_role_that_starts_on_an_older_schema_is_told_what_to_do(new_databases: Callable[[], DatabaseUrls]) -> None:
    urls = new_databases()
    migrate(urls.results, "results", "0005")
    owner = Results.open(urls.results)
    roles.apply_roles(owner, "results", {"ecg_scorer": PASSWORD})
    url = sa.make_url(urls.results).set(username="ecg_scorer", password=PASSWORD).render_as_string(False)
    with pytest.raises(ConfigurationError, match=r"has the schema 0005, which is not that .* as the tables' owner"):
        migrate(url, "results")
    empty = sa.make_url(new_databases().results).set(username="ecg_scorer", password=PASSWORD)
    with pytest.raises(ConfigurationError, match="has no tables yet, and ecg_scorer may not"):
        migrate(empty.render_as_string(False), "results")
    owner.close()


def test_only_who_may_make_roles_can(owner: Stores, as_role: Callable[[str], Stores], tmp_path: Path) -> None:
    with pytest.raises((ConfigurationError, sa.exc.DBAPIError)):
        roles.apply_roles(as_role("ecg_api").results, "results", {"ecg_api": PASSWORD})
    (tmp_path / "ecg_api_password").write_text("short\n")
    with pytest.raises(ConfigurationError, match="shorter than 12"):
        roles.main(passwords=tmp_path)
    with pytest.raises(ConfigurationError, match="has no password"):
        roles.main(passwords=tmp_path / "none")


def test_the_owner_still_sees_everything(owner: Stores, sites: dict[str, WindowSet]) -> None:
    assert add_recording(owner, "after", 3).site == "main"
    assert len(owner.warehouse.window_sets(SPEC.digest)) == 3
