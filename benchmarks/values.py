"""The secrets that the benchmarks keep: secret `n` has the key and the value that belong to `n`."""

from collections.abc import Iterable

from pydantic import BaseModel

NAMESPACE = "bench"
GROUPS = 10


class Token(BaseModel):
    """What a secret looks like to a caller who reads it by type."""

    client_id: str
    client_secret: str
    refresh_token: str
    endpoint: str
    scopes: list[str]
    number: int


def key_of(number: int) -> str:
    """Return the key of a secret."""
    return f"group{number % GROUPS}.token.{number:07}"


def keys_of(numbers: Iterable[int]) -> list[str]:
    """Return the keys of secrets."""
    return [key_of(number) for number in numbers]


def value_of(number: int) -> dict[str, object]:
    """Return the value of a secret: about 400 bytes of JSON."""
    return {
        "client_id": f"Iv1.{number:016x}",
        "client_secret": f"{number:040x}",
        "refresh_token": f"{number:0186x}",
        "endpoint": f"https://identity.example.com/oauth/{number}/token",
        "scopes": ["repo", "user"],
        "number": number,
    }


def items_of(numbers: Iterable[int]) -> list[tuple[str, dict[str, object]]]:
    """Return keys and values of secrets."""
    return [(key_of(number), value_of(number)) for number in numbers]


def group_prefix() -> str:
    """Return a prefix that a tenth of all keys have."""
    return "group7."


def group_keys(count: int) -> list[str]:
    """Return the keys of so many secrets that begin with the prefix, in their order."""
    return keys_of(range(7, count, GROUPS))
