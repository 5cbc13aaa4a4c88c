"""What a value that cannot be read leaves behind: nothing that is printed, logged or found in the frames of its error."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from secretstore import ProviderClient, SecretStoreError, open_provider
from secretstore.domain.providers import SecretProvider
from tests.support.errors import assert_tells_nothing
from tests.support.frames import shown_by_frames

MARKER = "Zq7-marker-Xw9"

Read = Callable[[SecretProvider], object]
READS: dict[str, Read] = {
    "read": lambda provider: provider.read("K"),
    "read_many": lambda provider: provider.read_many(["K"]),
    "of a client": lambda provider: ProviderClient(provider).get_secret("K"),
    "many of a client": lambda provider: ProviderClient(provider).get_secrets_by_prefix(""),
    "as a type": lambda provider: ProviderClient(provider).get_secret("K", int),
}


@pytest.fixture(params=["env", "file", "file of bytes", "dotenv", "dotenv that is none"])
def unfit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretProvider:
    """A place whose one secret is not what its URL says."""
    monkeypatch.setenv("LEAK_K", MARKER)
    for name, data in {"texts": MARKER.encode(), "bytes": MARKER.encode() + b"\xff"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "K").write_bytes(data)
    (tmp_path / ".env").write_text(f"K={MARKER}\n")
    (tmp_path / "broken.env").write_text(f"K={MARKER}\nK={MARKER}\n")
    urls = {
        "env": "env://?prefix=LEAK_&format=json",
        "file": f"file://{tmp_path}/texts?format=json",
        "file of bytes": f"file://{tmp_path}/bytes",
        "dotenv": f"dotenv://{tmp_path}/.env?format=json",
        "dotenv that is none": f"dotenv://{tmp_path}/broken.env",
    }
    return open_provider(urls[request.param])


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_value_that_does_not_fit_is_not_shown(
    unfit: SecretProvider, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error, nor what it came from, nor its frames, nor the log hold any of it."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SecretStoreError) as caught:
        read(unfit)

    assert_tells_nothing(caught.value, MARKER)
    assert MARKER not in "".join(shown_by_frames(caught.value))
    assert MARKER not in caplog.text
