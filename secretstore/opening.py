"""From a URL to a provider: those of this library, and those that others install."""

import importlib
from importlib.metadata import entry_points
from typing import cast

from secretstore.domain.providers import SecretProvider
from secretstore.errors import ConfigurationError
from secretstore.providers.addresses import scheme_of

# Others' providers are entry points of this group, named by their scheme: functions from a URL to a provider.
GROUP = "secretstore.providers"

# Each is imported when it is first asked for, and its SDK with it.
_OURS = {
    "aws-secretsmanager": "secretstore.providers.aws_secrets_manager:open_aws_secrets_manager",
    "aws-ssm": "secretstore.providers.aws_ssm:open_aws_ssm",
    "dotenv": "secretstore.providers.dotenv:open_dotenv",
    "embedded": "secretstore.connecting:open_postgres",
    "env": "secretstore.providers.environment:open_environment",
    "file": "secretstore.providers.files:open_files",
    "memory": "secretstore.providers.memory:open_memory",
    "postgres": "secretstore.connecting:open_postgres",
    "postgresql": "secretstore.connecting:open_postgres",
    "postgresql+psycopg": "secretstore.connecting:open_postgres",
    "vault": "secretstore.providers.vault:open_vault",
}


def open_provider(url: str) -> SecretProvider:
    """Return the provider of a URL; nothing connects before the first call.

    The schemes are those of this library and the entry points `secretstore.providers` of what is installed beside it.
    Raises `ConfigurationError` where no provider takes the URL, and `ImportError` naming the extra that it needs.
    """
    scheme = scheme_of(url)
    if scheme in _OURS:
        module, _, name = _OURS[scheme].partition(":")
        return cast("SecretProvider", getattr(importlib.import_module(module), name)(url))
    theirs = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in theirs:
        known = ", ".join(sorted({*_OURS, *theirs}))
        raise ConfigurationError(f"no provider takes URLs with {scheme}:, only with {known}")
    return cast("SecretProvider", theirs[scheme].load()(url))


# As people import it.
open_provider.__module__ = "secretstore"
