"""A trigger.dev's own table, filled as its Node code fills it."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ENCRYPTION_KEY = "ae13021afef0819c3a307ad487071c06"
CREATED = "2023-05-01 10:00:00.123"
UPDATED = "2024-06-02 11:30:00.456"
LATER = "2124-06-02 11:30:00.456"
_TAG_BYTES = 16
_COLUMNS = '("key", "value", "version", "createdAt", "updatedAt")'


def sealed(text: str | bytes, encryption_key: str = ENCRYPTION_KEY) -> dict[str, str]:
    """Seal as `createCipheriv("aes-256-gcm", ENCRYPTION_KEY, randomBytes(12))` does."""
    nonce = os.urandom(12)
    both = AESGCM(encryption_key.encode()).encrypt(nonce, text.encode() if isinstance(text, str) else text, None)
    ciphertext, tag = both[:-_TAG_BYTES], both[-_TAG_BYTES:]
    return {"nonce": nonce.hex(), "ciphertext": ciphertext.hex(), "tag": tag.hex()}


def sealed_json(value: object) -> str:
    """What the column `value` of version 2 holds."""
    return json.dumps(sealed(json.dumps(value)))


@dataclass(frozen=True)
class Source:
    """The database of a trigger.dev."""

    url: str
    raw: psycopg.Connection

    def put(self, key: str, value: object, *, updated: str = UPDATED) -> None:
        """Write a value as trigger.dev's `setSecret` does."""
        self.put_stored(key, sealed_json(value), updated=updated)

    def put_stored(self, key: str, stored: str, *, version: str = "2", updated: str = UPDATED) -> None:
        """Write what a row holds, whatever it is."""
        statement = f"""INSERT INTO "SecretStore" {_COLUMNS} VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT ("key") DO UPDATE SET "value" = excluded."value", "updatedAt" = excluded."updatedAt" """
        self.raw.execute(statement.encode(), (key, stored, version, CREATED, updated))

    def put_many(self, keys: Iterable[str]) -> None:
        """Write one value under many keys."""
        stored = sealed_json({"secret": "hunter2-of-many"})
        rows = [(key, stored, "2", CREATED, UPDATED) for key in keys]
        with self.raw.cursor() as cursor:
            cursor.executemany(f'INSERT INTO "SecretStore" {_COLUMNS} VALUES (%s, %s, %s, %s, %s)'.encode(), rows)


@contextmanager
def triggerdev(url: str, json_type: str = "jsonb", time_type: str = "timestamp(3)") -> Iterator[Source]:
    """Give an empty trigger.dev, in a database that had another one before; Prisma makes columns of these types."""
    # It may lead through a pooler, behind which nothing can be prepared.
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as raw:
        raw.execute("DROP SCHEMA IF EXISTS public CASCADE")
        raw.execute("CREATE SCHEMA public")
        raw.execute(
            f"""CREATE TABLE "SecretStore" (
                "key" text NOT NULL,
                "value" {json_type} NOT NULL,
                "version" text NOT NULL DEFAULT '1',
                "createdAt" {time_type} NOT NULL DEFAULT CURRENT_TIMESTAMP,
                "updatedAt" {time_type} NOT NULL)""".encode()
        )
        raw.execute('CREATE UNIQUE INDEX "SecretStore_key_key" ON "SecretStore"("key")')
        yield Source(url, raw)
