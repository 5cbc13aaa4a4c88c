"""The one reader of the process's environment."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from secretstore.crypto.local import read_key_files
from secretstore.errors import ConfigurationError

PREFIX = "SECRETSTORE_"


class Settings(BaseSettings):
    """What `SECRETSTORE_…` variables say, each also as a file named by `SECRETSTORE_…_FILE`; arguments win over both."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr | None = Field(None, description="where the store is: postgresql://…, or `embedded`")
    namespace: str = Field("default", description="the namespace of calls that name none")
    keys: SecretStr | None = Field(
        None, description="master keys as id:base64,…, KMS ARNs or vault:// URLs; the first one encrypts"
    )
    actor: str | None = Field(None, description="who is recorded as having made a change; else the database role")
    format: Literal["table", "json", "yaml"] | None = Field(None, description="how the command line prints data")

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


def load_settings(**arguments: Any) -> Settings:
    """Read the settings; arguments that are None do not count.  Raises `ConfigurationError` or `MasterKeyError`."""
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = {PREFIX + str(problem["loc"][0]).upper() for problem in error.errors(include_input=False)}
    raise ConfigurationError(f"{', '.join(sorted(wrong))} has a value that is not allowed")


class _NamedFiles(PydanticBaseSettingsSource):
    """Reads `SECRETSTORE_…_FILE`."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - ditto
        variable = PREFIX + field_name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if path is None:
            return None, field_name, False
        if variable in os.environ:
            raise ConfigurationError(f"both {variable} and {variable}_FILE are set; keep one of them")
        read = read_key_files if field_name == "keys" else _read_text
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
