"""`env://?prefix=APP_`: the variables of the process's environment, to read.

The key `db.password` is the variable `APP_DB_PASSWORD`; `secretstore.domain.variables` says how.
"""

import os
from collections.abc import Mapping

from pydantic import Secret

from secretstore.domain.names import MAX_KEY_LENGTH
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.domain.variables import key_of_variable, variable_name
from secretstore.providers.addresses import Address
from secretstore.providers.base import Provider
from secretstore.providers.formats import Format, decoded


def open_environment(url: str) -> "EnvironmentProvider":
    """Return the provider of an `env://` URL with the options `prefix` and `format`."""
    address = Address.parse(url, options=frozenset({"prefix", "format"}))
    if address.host or address.path:
        address.refuse("has no host and no path; write env://?prefix=APP_")
    return EnvironmentProvider(prefix=address.options.get("prefix", ""), form=address.form(Format.AUTO))


class EnvironmentProvider(Provider):
    """Variables whose names begin with `prefix`, as they are when they are asked for.

    `environment` is another mapping in the place of the process's own.
    """

    def __init__(
        self, *, prefix: str = "", form: Format = Format.AUTO, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = f"env://?prefix={prefix}" if prefix else "env://"
        self._prefix = prefix
        self._form = form
        self._environment = environment

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return the value of a variable; an empty one is an empty text, and not missing."""
        if version is not None:
            self.require(Ability.VERSIONS)
        variable = self._variable(key)
        text = self._text(variable)
        if text is None:
            return None
        value = decoded(text, self._form, name=f"the variable {variable}")
        return ProvidedSecret(value_json=value, info=self._info(key))

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the variables' names without the prefix, in small letters."""
        names = (name.removeprefix(self._prefix) for name in list(self._variables) if name.startswith(self._prefix))
        keys = (key for name in names if (key := key_of_variable(name)) and len(key) <= MAX_KEY_LENGTH)
        return sorted(key for key in keys if key.startswith(prefix) and (after is None or key > after))[:limit]

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return that there is such a variable."""
        return self._info(key) if self._variable(key) in self._variables else None

    def _text(self, variable: str) -> Secret[str] | None:
        text = self._variables.get(variable)
        return None if text is None else Secret(text)

    @property
    def _variables(self) -> Mapping[str, str]:
        return os.environ if self._environment is None else self._environment

    def _variable(self, key: str) -> str:
        return f"{self._prefix}{variable_name(key)}"

    def _info(self, key: str) -> ProvidedInfo:
        return ProvidedInfo(provider=self.name, key=key)
