"""Registries: names to classes, and the nearest name for a typing error."""

import pytest

from srun.errors import ConfigError
from srun.models import MODELS
from srun.registry import Registry, suggest
from srun.unlearning import UNLEARNERS


def test_names_lead_to_their_entries_in_order():
    registry = Registry("thing", {"b": 1, "a": 2})
    assert list(registry) == ["b", "a"]
    assert registry["a"] == 2
    assert "b" in registry
    assert "c" not in registry


def test_an_unknown_name_is_an_error_with_the_nearest_and_all_known():
    registry = Registry("model", {"sasrec": 1, "gru4rec": 2})
    with pytest.raises(ConfigError) as caught:
        registry["sasrek"]
    message = str(caught.value)
    assert 'unknown model "sasrek"' in message
    assert 'did you mean "sasrec"?' in message
    assert "gru4rec" in message


def test_nothing_is_suggested_when_nothing_is_near():
    assert suggest("zzz", ["sasrec"]) == ""


@pytest.mark.parametrize("registry", [MODELS, UNLEARNERS])
def test_entries_are_distinct_classes_with_a_config(registry):
    entries = [registry[name] for name in registry]
    assert len(set(entries)) == len(entries)
    assert all(isinstance(entry, type) and hasattr(entry, "Config") for entry in entries)
