"""The one reader of the process's environment."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from secretstore.client.retrying import RETRY_SECONDS
from secretstore.crypto.local import read_key_files
from secretstore.errors import ConfigurationError

PREFIX = "SECRETSTORE_"
TRIGGERDEV_PREFIX = "TRIGGERDEV_"

_KEYS = frozenset({"keys", "encryption_key"})


class _FromEnvironment(BaseSettings):
    """Reads variables of one prefix, each also from the file that its variable with `_FILE` names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917 - the signature is pydantic's
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - part of the signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - part of the signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables, then the files that variables name."""
        return init_settings, env_settings, _NamedFiles(settings_cls)


class Settings(_FromEnvironment):
    """What `SECRETSTORE_…` variables say, each also as a file named by `SECRETSTORE_…_FILE`; arguments win over both."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    database_url: SecretStr | None = Field(None, description="where the store is: postgresql://…, or `embedded`")
    namespace: str = Field("default", description="the namespace of calls that name none")
    keys: SecretStr | None = Field(None, description="master keys as id:base64,…, ARNs of KMS keys, vault:// URLs")
    actor: str | None = Field(None, description="who is recorded as having made a change; else the database role")
    require_actor: bool = Field(default=False, description="whether a change for which no actor is named is refused")
    notify: Literal["transaction", "after_commit", "off"] = Field(
        "transaction", description="whether other processes are told of a change when it is committed"
    )
    prepared_statements: bool | None = Field(
        None,
        description="whether PostgreSQL keeps the plans of statements; not behind a pooler in transaction mode "
        "(else yes for `embedded`, and no for others)",
    )
    libpq: bool = Field(
        True,  # noqa: FBT003 - pydantic's way to give a default
        description="whether the statements of every read and write go past psycopg's cursor",
    )
    retry_seconds: float = Field(
        RETRY_SECONDS,
        ge=0,
        allow_inf_nan=False,
        description="for how long a call is tried again where that may help; 0: never",
    )
    cache: bool = Field(default=False, description="whether the values of single secrets are kept in memory")
    cache_ttl_seconds: float | None = Field(None, description="after how long a kept value is read again")
    cache_max_entries: int | None = Field(None, description="how many values are kept")
    cache_max_bytes: int | None = Field(None, description="how much memory they take")
    cache_max_stale_seconds: float | None = Field(None, description="how old a value gets without word from PostgreSQL")
    audit_reads: Literal["off", "buffered", "strict"] = Field(
        "off", description="whether reads are recorded: a moment later, or in the transaction of the read"
    )
    listen_url: SecretStr | None = Field(None, description="a direct way to the database, for notices of changes")
    chain: SecretStr | None = Field(
        None, description="the providers that `get` and `list` of the command line ask in order"
    )
    format: Literal["table", "json", "yaml"] | None = Field(None, description="how the command line prints data")

    def cache_options(self) -> dict[str, Any]:
        """Return what is set of the cache, under the names that it has there."""
        prefix = "cache_"
        found = {name.removeprefix(prefix): getattr(self, name) for name in type(self).model_fields if prefix in name}
        return {name: value for name, value in found.items() if value is not None}


class TriggerdevSettings(_FromEnvironment):
    """What `TRIGGERDEV_…` variables say of the trigger.dev to import from, each also as a file as above."""

    model_config = SettingsConfigDict(env_prefix=TRIGGERDEV_PREFIX)

    database_url: SecretStr | None = Field(None, description="its DATABASE_URL")
    encryption_key: SecretStr | None = Field(None, description="its ENCRYPTION_KEY")


class MovingSettings(_FromEnvironment):
    """What `SECRETSTORE_…` variables say of the providers to copy or compare, each also as a file as above."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    from_url: SecretStr | None = Field(None, description="the provider to read")
    to_url: SecretStr | None = Field(None, description="the provider to compare with, or to write")


S = TypeVar("S", bound=_FromEnvironment)


def load_settings(**arguments: Any) -> Settings:
    """Read the settings; arguments that are None do not count.  Raises `ConfigurationError` or `MasterKeyError`."""
    return _load(Settings, arguments)


def load_triggerdev_settings(**arguments: Any) -> TriggerdevSettings:
    """Read what is set of trigger.dev, as `load_settings` does."""
    return _load(TriggerdevSettings, arguments)


def load_moving_settings(**arguments: Any) -> MovingSettings:
    """Read what is set of the providers to copy or compare, as `load_settings` does."""
    return _load(MovingSettings, arguments)


def _load(settings: type[S], arguments: Mapping[str, Any]) -> S:
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return settings(**given)
    except ValidationError as error:
        wrong = {_variable(settings, str(problem["loc"][0])) for problem in error.errors(include_input=False)}
    raise ConfigurationError(f"{', '.join(sorted(wrong))} has a value that is not allowed")


def _variable(settings: type[BaseSettings], name: str) -> str:
    return f"{settings.model_config.get('env_prefix', '')}{name.upper()}"


class _NamedFiles(PydanticBaseSettingsSource):
    """Reads `…_FILE`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - ditto
        variable = _variable(self.settings_cls, field_name)
        path = os.environ.get(f"{variable}_FILE")
        if path is None:
            return None, field_name, False
        if variable in os.environ:
            raise ConfigurationError(f"both {variable} and {variable}_FILE are set; keep one of them")
        read = read_key_files if field_name in _KEYS else _read_text
        return _contents(read, Path(path), f"{variable}_FILE"), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _contents(read: Callable[[Path], str], path: Path, variable: str) -> str:
    try:
        return read(path).strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    raise ConfigurationError(f"cannot read the file that {variable} names, {path}: {problem}")
