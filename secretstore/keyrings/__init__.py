"""Master keys in key servers, and the reader of a key ring's text, which may name any kind."""

from secretstore.crypto.keyring import KeyRing
from secretstore.crypto.local import LocalMasterKey, split_entries
from secretstore.domain.protocols import MasterKey
from secretstore.keyrings.aws import AwsKmsMasterKey
from secretstore.keyrings.vault import VaultMasterKey

__all__ = ["AwsKmsMasterKey", "VaultMasterKey", "open_keyring"]


def open_keyring(text: str) -> KeyRing:
    """Read master keys of any kind, divided by commas or line ends; the first one wraps, all of them unwrap.

    An entry is `id:base64`, the ARN of an AWS KMS key (extra `aws`), or `vault://host:port/mount/key` (extra `vault`).
    Raises `MasterKeyError`, and `ImportError` where an extra is missing; asks no server.
    """
    return KeyRing(*(_open_entry(entry) for entry in split_entries(text)))


def _open_entry(entry: str) -> MasterKey:
    if entry.startswith("arn:"):
        return AwsKmsMasterKey(entry)
    if entry.startswith(("vault:", "vault+http:")):
        return VaultMasterKey.parse(entry)
    return LocalMasterKey.parse(entry)
