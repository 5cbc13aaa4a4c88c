"""What every provider has in common."""

from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn, Self

from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.errors import ProviderError, SecretNotFoundError


class Provider:
    """A provider that can do nothing but be asked; what a subclass does not build is refused by name.

    A subclass builds `name`, `abilities`, `read`, `list_keys` and `describe`, and what its abilities say.
    """

    abilities: frozenset[Ability] = frozenset()
    name: str
    # Whether what is there may look as if it were missing, because a part of the place may be down.
    may_hide_secrets: bool = False

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Return a secret."""
        raise NotImplementedError

    def read_many(self, keys: Collection[str]) -> dict[str, ProvidedSecret]:
        """Return those of the secrets that there are, one after another."""
        found = ((key, self.read(key)) for key in keys)
        return {key: secret for key, secret in found if secret is not None}

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return keys in the order of their code points."""
        raise NotImplementedError

    def describe(self, key: str) -> ProvidedInfo | None:
        """Return what is known of a secret."""
        raise NotImplementedError

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Refuse to write."""
        self.refuse(Ability.WRITE)

    def delete(self, key: str) -> bool:
        """Refuse to delete."""
        self.refuse(Ability.DELETE)

    def undelete(self, key: str) -> ProvidedInfo:
        """Refuse to undelete."""
        self.refuse(Ability.UNDELETE)

    def list_versions(self, key: str) -> list[ProvidedInfo]:
        """Refuse to tell of versions."""
        self.refuse(Ability.VERSIONS)

    def destroy_versions(self, key: str, versions: Sequence[Version]) -> int:
        """Refuse to destroy."""
        self.refuse(Ability.DESTROY)

    def close(self) -> None:
        """Have nothing to give back."""

    def require_what_a_write_needs(self, expected_version: int | None, labels: Mapping[str, str] | None) -> None:
        """Raise `ProviderError` where a write asks for more than this provider can do; nothing was sent."""
        self.require(Ability.WRITE)
        if expected_version is not None:
            self.require(Ability.CHECK_AND_SET if expected_version else Ability.CREATE)
        if labels is not None:
            self.require(Ability.LABELS)

    def require_versions(self, key: str, versions: Sequence[Version], there: Collection[Version | None]) -> None:
        """Raise `SecretNotFoundError` where one of the versions is none of those that there are."""
        missing = next((version for version in versions if version not in there), None)
        if missing is not None:
            raise SecretNotFoundError(self.name, key, missing)

    def require(self, ability: Ability) -> None:
        """Raise `ProviderError` where this provider is not able to do it."""
        if ability not in self.abilities:
            self.refuse(ability)

    def refuse(self, ability: Ability) -> NoReturn:
        """Raise `ProviderError`."""
        raise ProviderError(f"{self.name} cannot {ability}", provider=self.name, operation=ability.value)

    def failed(self, operation: str, problem: str, *, is_temporary: bool = False) -> ProviderError:
        """Return the error that says what failed; `problem` holds words of ours or a code, never what was sent."""
        return ProviderError(
            f"{self.name} failed to {operation}: {problem}",
            provider=self.name,
            operation=operation,
            is_temporary=is_temporary,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"
