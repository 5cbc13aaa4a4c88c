"""One call for each kind of change, on a namespace that is ready for all of them."""

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import text

from secretstore import ExportedSecret, SecretClient

_ACCESS = """
    INSERT INTO secretstore.access_event (namespace, id, key, version, action, actor)
    VALUES (:namespace, gen_random_uuid(), 'k', 1, 'get', 'me')
"""
VALUE = "hunter2-of-the-test"


def prepare(store: SecretClient) -> None:
    """Write what the changes below need: `k` has two versions, `gone` is deleted, one data key is not needed, and accesses are sealed."""
    store.set_secret("k", {"a": VALUE})
    store.set_secret("k", {"a": 2})
    store.set_secret("gone", VALUE)
    store.delete_secret("gone")
    store.keys.rotate()
    for _ in range(2):
        with store.engine.begin() as connection:
            connection.execute(text(_ACCESS), {"namespace": store.keys.namespace})
        store.audit.seal()


def _drop(store: SecretClient) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store.audit.drop_accesses(before=datetime.now(UTC) + timedelta(hours=1), export=Path(folder) / "reads.jsonl")


def _restore(store: SecretClient) -> None:
    store.restore(store.list_versions("k")[-1].created_at, "k")


def _import(store: SecretClient) -> None:
    store.import_secrets([ExportedSecret(key="k", value=VALUE)])


def _destroy_data_key(store: SecretClient) -> None:
    store.keys.destroy(next(key.id for key in store.keys.list_data_keys() if key.state == "retired"))


# Each with the key and the version that its record names.
CHANGES: Mapping[str, tuple[Callable[[SecretClient], object], str, int]] = MappingProxyType(
    {
        "set": (lambda store: store.set_secret("new", VALUE), "new", 1),
        "patch": (lambda store: store.patch_secret("k", {"b": VALUE}), "k", 3),
        "rollback": (lambda store: store.rollback_secret("k", 1), "k", 3),
        "restore": (_restore, "k", 3),
        "import": (_import, "k", 3),
        "labels": (lambda store: store.set_labels("k", {"team": "web"}), "k", 2),
        "delete": (lambda store: store.delete_secret("k"), "k", 2),
        "undelete": (lambda store: store.undelete_secret("gone"), "gone", 1),
        "destroy": (lambda store: store.destroy_versions("k", [1]), "k", 1),
        "purge": (lambda store: store.purge_secret("k"), "k", 2),
        "rotate": (lambda store: store.keys.rotate(), "", 0),
        "rewrap": (lambda store: store.keys.rewrap(everything=True), "", 0),
        "destroy_data_key": (_destroy_data_key, "", 0),
        "shred": (lambda store: store.keys.shred(), "", 0),
        "grant": (lambda store: store.grants.add("pg_monitor", can=["list"]), "", 0),
        "drop": (_drop, "", 0),
        "revoke": (lambda store: store.grants.revoke("pg_read_all_stats", everything=True), "", 0),
    }
)
# Changes that are recorded as one of those.
OTHERS: Mapping[str, Callable[[SecretClient], object]] = MappingProxyType(
    {
        "set": lambda store: store.set_secrets({"new": VALUE}),
        "labels": lambda store: store.patch_labels("k", {"team": "web"}),
        "delete": lambda store: store.delete_secrets(["k"]),
        "purge": lambda store: store.gc(deleted_for=timedelta()),
    }
)
