"""Frozen answers to callers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretInfo:
    """What is known of a secret without its value; times carry a time zone."""

    namespace: str
    key: str
    version: int
    labels: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    created_by: str
    expires_at: datetime | None
    deleted_at: datetime | None
