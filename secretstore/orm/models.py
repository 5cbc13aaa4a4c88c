"""The tables, in a PostgreSQL schema of their own.

Every key, unique constraint and foreign key begins with the namespace, and every constraint has a name, so that the same
tables can be distributed by namespace.  Names of secrets compare by byte (`COLLATE "C"`), so that prefixes and pages are
ranges of the primary key.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    func,
    inspect,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "secretstore"

# What JSONB gives back is checked by the envelope's parser, not by its type.
JsonObject = Mapping[str, Any]
Name = Annotated[str, mapped_column(Text(collation="C"))]
NameInKey = Annotated[str, mapped_column(Text(collation="C"), primary_key=True)]
KeyIdInJson = Annotated[str | None, mapped_column(Text(collation="C"))]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
LaterMoment = Annotated[datetime | None, mapped_column(DateTime(timezone=True))]
# PostgreSQL says so itself, whoever writes the row; the role is the one that has logged in.
_APPLICATION_NAME = text("current_setting('application_name'::text)")
_DATABASE_ROLE = text("SESSION_USER")
Labels = Annotated[dict[str, str], mapped_column(JSONB, server_default=text("'{}'::jsonb"))]


class Base(DeclarativeBase):
    """The tables of this library; a repr names a row and never shows what is in it."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        },
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}{inspect(self).identity}"


class DataKey(Base):
    """A key that encrypts the values of one namespace, wrapped by a master key.

    An `active` one seals, and a `retired` one only opens.  An `audit` one encrypts nothing, and authenticates checkpoints of
    the record.  Of a shredded one nothing is left but its row, which says so.
    """

    __tablename__ = "data_key"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'audit', 'retired')", name="state"),
        Index("uq_data_key_active", "namespace", unique=True, postgresql_where=text("state = 'active'")),
        Index("uq_data_key_audit", "namespace", unique=True, postgresql_where=text("state = 'audit'")),
    )

    namespace: Mapped[NameInKey]
    id: Mapped[NameInKey]
    wrapped: Mapped[JsonObject] = mapped_column(JSONB)
    master_key_id: Mapped[KeyIdInJson] = mapped_column(Computed("wrapped ->> 'key'::text", persisted=True))
    state: Mapped[str] = mapped_column(Text, server_default=text("'active'"))
    created_at: Mapped[Moment]
    wrapped_at: Mapped[Moment]
    retired_at: Mapped[LaterMoment]
    shredded_at: Mapped[LaterMoment]


class DataKeyUse(Base):
    """So many seals were made with a data key; a row for a sample of them, so that no writer waits for another."""

    __tablename__ = "data_key_use"
    __table_args__ = (
        ForeignKeyConstraint(["namespace", "data_key_id"], [DataKey.namespace, DataKey.id], ondelete="CASCADE"),
        CheckConstraint("seals >= 1", name="seals"),
    )

    namespace: Mapped[NameInKey]
    data_key_id: Mapped[NameInKey]
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    seals: Mapped[int] = mapped_column(BigInteger)


class SecretStore(Base):
    """A secret as it is now; `value` is an envelope, never plaintext.

    Its row stays for good, because it holds the number of the last version: of a purged secret nothing else is left, and
    `value` is null.  Reading rows is yours to do.  Write through a service or a client: a row written by hand has no history, no record
    of the change, and no envelope that opens.
    """

    __module__ = "secretstore"

    __tablename__ = "secret_store"
    __table_args__ = (
        ForeignKeyConstraint(["namespace", "data_key_id"], [DataKey.namespace, DataKey.id]),
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("max_versions >= 1", name="max_versions"),
        Index("ix_secret_store_labels", "labels", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"}),
    )

    namespace: Mapped[NameInKey]
    key: Mapped[NameInKey]
    value: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    data_key_id: Mapped[KeyIdInJson] = mapped_column(Computed("value ->> 'key'::text", persisted=True))
    version: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[Labels]
    expires_at: Mapped[LaterMoment]
    deleted_at: Mapped[LaterMoment]
    max_versions: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[Moment]
    created_by: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[Moment]
    updated_by: Mapped[str] = mapped_column(Text)


class SecretVersion(Base):
    """One version of a secret as it was written; a destroyed one has no value."""

    __tablename__ = "secret_version"
    __table_args__ = (
        ForeignKeyConstraint(["namespace", "key"], [SecretStore.namespace, SecretStore.key]),
        ForeignKeyConstraint(["namespace", "data_key_id"], [DataKey.namespace, DataKey.id]),
    )

    namespace: Mapped[NameInKey]
    key: Mapped[NameInKey]
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[JsonObject | None] = mapped_column(JSONB(none_as_null=True))
    data_key_id: Mapped[KeyIdInJson] = mapped_column(Computed("value ->> 'key'::text", persisted=True))
    labels: Mapped[Labels]
    expires_at: Mapped[LaterMoment]
    created_at: Mapped[Moment]
    created_by: Mapped[str] = mapped_column(Text)
    destroyed_at: Mapped[LaterMoment]


class LabelChange(Base):
    """Labels that a secret got after a version of it was written, and before the next one was."""

    __tablename__ = "label_change"
    __table_args__ = (
        ForeignKeyConstraint(
            ["namespace", "key", "version"],
            [SecretVersion.namespace, SecretVersion.key, SecretVersion.version],
            ondelete="CASCADE",
        ),
    )

    namespace: Mapped[NameInKey]
    key: Mapped[NameInKey]
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    labels: Mapped[Labels]


class NamespaceSetting(Base):
    """What holds for a whole namespace."""

    __tablename__ = "namespace_setting"
    __table_args__ = (CheckConstraint("max_versions >= 1", name="max_versions"),)

    namespace: Mapped[NameInKey]
    max_versions: Mapped[int | None] = mapped_column(BigInteger)


class _Event:
    """What every record of something that happened says; `seq` stays null until some time after its commit."""

    namespace: Mapped[NameInKey]
    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    key: Mapped[Name]
    version: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[Moment]
    outcome: Mapped[str] = mapped_column(Text, server_default=text("'done'::text"))
    request_id: Mapped[str | None] = mapped_column(Text)
    application_name: Mapped[str | None] = mapped_column(Text, server_default=_APPLICATION_NAME)
    database_role: Mapped[str | None] = mapped_column(Text, server_default=_DATABASE_ROLE)
    seq: Mapped[int | None] = mapped_column(BigInteger)


class ChangeEvent(_Event, Base):
    """One change, recorded in the change's own transaction.

    `occurred_at` is the moment of the change, which the rows that it changed have too; of one key, a later change has a
    later one.  A change of data keys has an empty key and version 0.
    """

    __tablename__ = "change_event"
    __table_args__ = (
        Index("uq_change_event_seq", "namespace", "seq", unique=True, postgresql_where=text("seq IS NOT NULL")),
        Index("ix_change_event_unnumbered", "namespace", "key", "version", postgresql_where=text("seq IS NULL")),
        Index("ix_change_event_key", "namespace", "key", text("version DESC"), text("occurred_at DESC")),
    )


class AccessEvent(_Event, Base):
    """One read of a value, or one call that was refused or failed; version 0 where none was reached."""

    __tablename__ = "access_event"
    __table_args__ = (
        Index("uq_access_event_seq", "namespace", "seq", unique=True, postgresql_where=text("seq IS NOT NULL")),
        Index("ix_access_event_unnumbered", "namespace", "occurred_at", postgresql_where=text("seq IS NULL")),
    )


class AuditCheckpoint(Base):
    """What a stretch of numbered events was when it was sealed; see `secretstore.crypto.checkpoint` for its bytes.

    `record` says of which table the events are.  The stretch is from `first_seq` to `last_seq`, and events before
    `kept_from` had been dropped by then, after an export.
    """

    __tablename__ = "audit_checkpoint"
    __table_args__ = (
        ForeignKeyConstraint(["namespace", "data_key_id"], [DataKey.namespace, DataKey.id]),
        CheckConstraint("record IN ('access', 'change')", name="record"),
    )

    namespace: Mapped[NameInKey]
    record: Mapped[NameInKey]
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_seq: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    kept_from: Mapped[int] = mapped_column(BigInteger)
    leaves: Mapped[bytes] = mapped_column(LargeBinary)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    previous: Mapped[bytes] = mapped_column(LargeBinary)
    data_key_id: Mapped[Name]
    mac: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[Moment]
