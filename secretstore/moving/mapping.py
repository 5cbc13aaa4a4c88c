"""Where the keys of a source stand in a target."""

import re
from dataclasses import dataclass
from typing import Self

from secretstore.domain.names import parse_prefix
from secretstore.errors import ConfigurationError

SAME_KEYS = "{key}"

# Text before a key keeps the order of keys, so that two sorted lists can be read side by side; text behind it would not.
_TEMPLATE = re.compile(r"([^{}]*)\{(key|rest)\}")


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Puts text before each key; no two keys become one, and their order stays."""

    prefix: str
    put: str
    cut: int

    @classmethod
    def parse(cls, template: str, prefix: str) -> Self:
        """Take a template apart: text and then `{key}`, or `{rest}` for the key without `prefix`.

        Raises `ConfigurationError` where it is none, and `InvalidSecretKeyError` where no key can begin like that.
        """
        found = _TEMPLATE.fullmatch(template)
        if found is None:
            raise ConfigurationError(
                "a map is text that ends in {key}, or in {rest} for the key without its prefix; for example old/{key}"
            )
        parse_prefix(prefix)
        mapped = cls(prefix, found[1], len(prefix) if found[2] == "rest" else 0)
        parse_prefix(mapped.target_prefix)
        return mapped

    @property
    def target_prefix(self) -> str:
        """What every key in the target begins with."""
        return self.target_key(self.prefix)

    def target_key(self, source_key: str) -> str:
        """Return what a key becomes."""
        return self.put + source_key[self.cut :]

    def source_key(self, target_key: str) -> str:
        """Return what becomes that key."""
        return self.prefix[: self.cut] + target_key[len(self.put) :]
