"""The bytes of checkpoints, which other languages read, and which never change."""

import hmac
import pickle
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secretstore.crypto import checkpoint
from secretstore.crypto.checkpoint import NOTHING_BEFORE, Checkpoint, CheckpointKey, leaf_of, root_of
from secretstore.domain.protocols import DataKeyPlace

# Of the test of RFC 6962's reference implementation: what is in the log, and the root over the first one, the first two …
ENTRIES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
EVENT = ("default", "6f1d3a52-7f0e-4a6b-9d0c-1f2e3d4c5b6a", "ключ", 2, "set", "me", "1700000000123456", "done")
REST = (None, "", "app", 7)
PLACE = DataKeyPlace("default", "d-1")
DATA_KEY = bytes(range(32))
ONE = Checkpoint(
    namespace="default",
    record="change",
    number=2,
    first_seq=4,
    last_seq=9,
    kept_from=1,
    sealed_at="1700000000123456",
    data_key_id="d-1",
    root=bytes(32),
    previous=bytes(range(32)),
)
LEAF = "af33ee76bc75b1c21c2fdced7abfb80d49fe165cfc9fab992107cc373195f38c"
MAC = "571695d4b8bcb90ee749d5d0f27216da53590645e784ddbc0f8699a686b1093c"
OTHER: dict[type, Any] = {str: "x", int: 77, bytes: b"\1" * 32}


def framed(*texts: str | None) -> bytes:
    """Fields as the head of the module describes them, written a second time."""
    return b"".join(
        b"\0" if text is None else b"\1" + len(text.encode()).to_bytes(4, "big") + text.encode() for text in texts
    )


def test_the_tree_is_that_of_rfc_6962() -> None:
    """The roots are those that the reference implementation knows, and of nothing the hash of nothing."""
    leaves = [sha256(b"\0" + bytes.fromhex(entry)).digest() for entry in ENTRIES]

    assert [root_of(b"".join(leaves[: at + 1])).hex() for at in range(len(ENTRIES))] == list(ROOTS)
    assert root_of(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_leaf_is_what_the_format_says() -> None:
    """Each column in its order, null apart from empty."""
    texts = ["secretstore event 1", "change", *(None if part is None else str(part) for part in EVENT + REST)]

    assert leaf_of("change", EVENT + REST) == sha256(b"\0" + framed(*texts)).digest()
    assert leaf_of("change", EVENT + REST).hex() == LEAF
    assert leaf_of("change", (*EVENT, "", None, "app", 7)).hex() != LEAF
    assert leaf_of("access", EVENT + REST).hex() != LEAF


def test_a_checkpoint_is_what_the_format_says() -> None:
    """The bytes that are authenticated, and the key that does so, can be made by another language."""
    key = HKDF(SHA256(), 32, salt=None, info=framed("secretstore checkpoint key 1", "default", "d-1")).derive(DATA_KEY)
    content = framed(
        *("secretstore checkpoint 1", "default", "change", "2", "4", "9", "1", "1700000000123456", "d-1"),
        *(bytes(32).hex(), bytes(range(32)).hex()),
    )

    mac = CheckpointKey(DATA_KEY, PLACE).authenticate(ONE.content)

    assert ONE.content == content
    assert ONE.hash == sha256(content).digest()
    assert mac == hmac.digest(key, content, "sha256")
    assert mac.hex() == MAC
    assert bytes(32) == NOTHING_BEFORE


@pytest.mark.parametrize("name", [one.name for one in fields(Checkpoint)])
def test_every_part_of_a_checkpoint_is_authenticated(name: str) -> None:
    """Whatever is changed, the mac does not fit any more."""
    key = CheckpointKey(DATA_KEY, PLACE)
    mac = key.authenticate(ONE.content)
    changed = replace(ONE, **{name: OTHER[type(getattr(ONE, name))]})

    assert ONE.is_authentic(key, mac)
    assert not changed.is_authentic(key, mac)
    assert not ONE.is_authentic(key, mac[:-1])


@pytest.mark.parametrize("place", [DataKeyPlace("other", "d-1"), DataKeyPlace("default", "d-2")])
def test_a_key_is_of_one_namespace_and_id(place: DataKeyPlace) -> None:
    """The same data key gives another key in another place."""
    assert CheckpointKey(DATA_KEY, place).authenticate(b"") != CheckpointKey(DATA_KEY, PLACE).authenticate(b"")


def test_a_key_shows_nothing_of_itself() -> None:
    """Its repr names it, and it cannot be pickled."""
    key = CheckpointKey(DATA_KEY, PLACE)

    assert repr(key) == "CheckpointKey(d-1)"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(key)


def test_the_format_is_written_at_the_head_of_the_file() -> None:
    """The words that tell the formats apart stand in the description."""
    for word in ("secretstore event 1", "secretstore checkpoint 1", "secretstore checkpoint key 1"):
        assert word in (checkpoint.__doc__ or "")
