from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from common.settings import BadSettings, KafkaSettings, PostgresSettings, load_settings


class Both(PostgresSettings, KafkaSettings):
    config_section: ClassVar[str] = "both"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONFIG_FILE", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("POSTGRES_URL", "postgresql://u:hunter2@h/d")
    monkeypatch.setenv("KAFKA_BROKERS", "h:1")


def _write(text: str) -> None:
    Path("config.yaml").write_text(text)


def test_the_environment_wins_over_dotenv_and_dotenv_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _write("common: {postgres_pool_max: 3, postgres_statement_s: 3, ops_port: 3}\nboth: {ops_port: 4}")
    Path(".env").write_text("POSTGRES_STATEMENT_S=5\nPOSTGRES_POOL_MAX=5\n")
    monkeypatch.setenv("POSTGRES_POOL_MAX", "7")
    settings = load_settings(Both)
    assert (settings.postgres_pool_max, settings.postgres_statement_s, settings.ops_port) == (7, 5, 4)


def test_a_name_that_is_no_setting_is_refused() -> None:
    _write("both: {postgres_pool_mex: 3}")
    with pytest.raises(BadSettings, match="postgres_pool_mex"):
        load_settings(Both)


def test_a_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_URL")
    with pytest.raises(BadSettings, match="POSTGRES_URL"):
        load_settings(Both)


def test_a_bad_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_POOL_MAX", "hunter2")
    with pytest.raises(BadSettings, match="POSTGRES_POOL_MAX") as caught:
        load_settings(Both)
    assert "hunter2" not in str(caught.value)


def test_settings_are_frozen_and_hide_secrets() -> None:
    settings = load_settings(Both)
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.postgres_pool_max = 1  # type: ignore[misc]
