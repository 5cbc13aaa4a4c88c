"""What docs/observability asks Prometheus for is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from secretstore import ProviderClient, SecretClient, metrics, open_chain
from secretstore.cache.config import CacheConfig
from secretstore.crypto.keyring import KeyRing
from secretstore.metrics import Metrics
from secretstore.orm.engines import make_engine

PAGES = Path(__file__).parents[2] / "docs" / "observability"
NAME = re.compile(r"\bsecretstore_[a-z_]+")

pytestmark = pytest.mark.source


@pytest.fixture
def known(keyring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, set[str]]]:
    """The labels of every name of a sample that a page may have."""
    shown = Metrics()
    for part in metrics._FAMILIES:
        shown.begin(part, "get_secret", "default")(None)
    engine = make_engine("postgresql://app@127.0.0.1:1/shop")
    shown.follow_store(engine)
    monkeypatch.setattr(shown, "_store", list)
    with SecretClient(engine, keyring, cache=CacheConfig()) as store:
        shown.follow(store)
        with ProviderClient(open_chain("memory:")) as client:
            shown.follow(client)
            found: dict[str, set[str]] = {}
            for sample in (sample for family in shown.collect() for sample in family.samples):
                found.setdefault(sample.name, set()).update(sample.labels)
            yield found


def expressions() -> Iterator[str]:
    """What the dashboard and the rules ask for."""
    for panel in json.loads((PAGES / "dashboard.json").read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in yaml.safe_load((PAGES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def test_each_expression_names_metrics_that_there_are(known: dict[str, set[str]]) -> None:
    """Every metric of the dashboard and of the alerts is on the page, under that very name."""
    asked = [name for expression in expressions() for name in NAME.findall(expression)]

    assert len(set(asked)) > 15
    assert set(asked) - known.keys() == set()


def test_each_expression_selects_by_labels_that_there_are(known: dict[str, set[str]]) -> None:
    """A selector or a grouping by a label that a metric does not have would silently match nothing."""
    given = {"job", "instance"}
    for expression in expressions():
        names = set(NAME.findall(expression))
        labels = set.union(*(known[name] for name in names)) | given
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", by)}
        selected = {
            label for inside in re.findall(r"{([^}]*)}", expression) for label in re.findall(r"(\w+)[=!]", inside)
        }
        assert grouped | selected <= labels, expression


def test_each_alert_says_what_to_do() -> None:
    """A name, a severity, what it is, and what to do."""
    rules = yaml.safe_load((PAGES / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_the_page_lists_every_metric(known: dict[str, set[str]]) -> None:
    """The table has each name that is on a page, and no other."""
    lines = (PAGES / "README.md").read_text(encoding="utf-8").splitlines()
    listed = {name for line in lines if line.startswith("| `secretstore_") for name in NAME.findall(line)}

    parts = re.compile(r"_seconds_(bucket|count|sum)$")
    assert listed == {parts.sub("_seconds", name) for name in known}
