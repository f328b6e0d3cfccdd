"""What goes wrong with databases, folders and keys: clear errors, and never a password in one."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from configs.errors import ConfigurationError, DatabaseUnavailableError, EcgError, StorageError
from warehouse.pseudonyms import KEY_FILE, load_key
from warehouse.store import open_stores
from warehouse.store.database import DatabaseUrls, normalise_url

pytestmark = pytest.mark.integration


def opening_fails(url: str, folder: Path) -> EcgError:
    with pytest.raises(EcgError) as raised, open_stores(url, url, folder):
        pass
    assert "\n" not in str(raised.value)
    assert "sekret" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    "url",
    [
        "nonsense", "mysql://u:sekret@h/d", "postgres://u:sekret@h/d", "postgresql://u:sekret@h",
        "postgresql://u:sekret@h:port/d", "postgresql://u:p@sekret@h/d",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ECG_RESULTS_URL") as raised:
        normalise_url(url, "ECG_RESULTS_URL")
    assert "sekret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "kind", "reason"),
    [
        ("postgresql://u:sekret@127.0.0.1:1/d", DatabaseUnavailableError, "Connection refused"),
        ("postgresql://u:sekret@127.0.0.1:99999/d", DatabaseUnavailableError, "invalid port"),
        ("postgresql:///d?host=/nowhere&password=sekret", DatabaseUnavailableError, "No such file"),
        ("postgresql://u:sekret@127.0.0.1:1/d?bogus=1", ConfigurationError, "bogus"),
    ],
)
def test_a_database_that_does_not_answer(tmp_path: Path, url: str, kind: type[EcgError], reason: str) -> None:
    error = opening_fails(url, tmp_path)
    assert type(error) is kind
    assert reason in error.problem
    assert error.hint


def test_a_database_that_does_not_exist_or_is_not_ours_to_change(postgres: sa.URL, tmp_path: Path) -> None:
    error = opening_fails(postgres.set(database="not_there").render_as_string(hide_password=False), tmp_path)
    assert type(error) is DatabaseUnavailableError
    assert 'database "not_there" does not exist' in error.problem
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE visitor LOGIN"))
        connection.execute(sa.text("CREATE DATABASE foreign_one"))
    engine.dispose()
    foreign = postgres.set(database="foreign_one", username="visitor").render_as_string(hide_password=False)
    error = opening_fails(foreign, tmp_path)
    assert type(error) is ConfigurationError
    assert "permission denied" in error.problem


def test_connections_that_end_meanwhile(
    new_databases: Callable[[], DatabaseUrls], postgres: sa.URL, tmp_path: Path
) -> None:
    urls = new_databases()
    end = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")

    def end_then_ask() -> None:
        with stores.warehouse.transaction() as connection:
            with engine.connect() as admin:
                admin.execute(end, {"name": sa.make_url(urls.warehouse).database})
            connection.execute(sa.text("SELECT 1"))

    with open_stores(urls.warehouse, urls.results, tmp_path) as stores:
        with pytest.raises(DatabaseUnavailableError, match=r"terminating connection|closed the connection"):
            end_then_ask()
        stores.warehouse.check()  # it goes on when the server does
    engine.dispose()


@pytest.mark.parametrize("place", ["data", "data/postgres"])
def test_a_file_where_the_data_should_be(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("in the way")
    with pytest.raises(StorageError, match=rf"{place}.*ECG_DATA_DIR"), open_stores(None, None, tmp_path / "data"):
        pass
    assert file.read_text() == "in the way"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    locked = Path("/proc/ecg") if os.geteuid() == 0 else tmp_path / "locked"  # root may write everywhere else
    if os.geteuid() != 0:
        locked.mkdir(mode=0o500)
    with pytest.raises(StorageError, match=str(locked)), open_stores(None, None, locked / "data"):
        pass
    with pytest.raises(StorageError, match=KEY_FILE):
        load_key(locked / "data")


def test_an_embedded_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "data" / "postgres"
    broken.mkdir(parents=True)
    (broken / "PG_VERSION").write_text("18\n")
    with pytest.raises(DatabaseUnavailableError, match=r"did not start .*See .*postgres/log") as raised:
        open_stores(None, None, tmp_path / "data").__enter__()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "abcd\n", "no hex at all", "00" * 31])
def test_a_key_that_is_cut_off_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / KEY_FILE).write_text(text)
    with pytest.raises(StorageError, match=r"pseudonym\.key.*cannot be used"):
        load_key(tmp_path)


def test_the_key_is_made_once_and_is_its_owners_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_key(tmp_path / "data"), range(8)))
    assert keys == {load_key(tmp_path / "data")}
    assert [len(key) for key in keys] == [32]
    (path,) = (tmp_path / "data").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
