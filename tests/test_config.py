"""Parameters: YAML 1.2, one dotted key for every value, errors that name it and the nearest known one."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from srun.config import build, config, flatten, merge, override, parse_assignment, read_yaml, section
from srun.errors import ConfigError


@config
class Inner:
    rate: Annotated[float, Field(gt=0)]
    size: Annotated[int, Field(ge=1)]
    loss: Literal["bce", "ce"]


@config
class Cat:
    kind: Literal["cat"]
    lives: int


@config
class Dog:
    kind: Literal["dog"]
    age: int


@config
class Outer:
    train: Inner
    pets: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]]
    tags: tuple[str, ...]


def values():
    return {
        "train": {"rate": 0.1, "size": 3, "loss": "ce"},
        "pets": {"tom": {"kind": "cat", "lives": 9}},
        "tags": ["a", "b"],
    }


def fault(change):
    changed = values()
    change(changed)
    with pytest.raises(ConfigError) as caught:
        build(Outer, changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plain_values_become_frozen_dataclasses():
    made = build(Outer, values())
    assert made.train == Inner(rate=0.1, size=3, loss="ce")
    assert made.pets == {"tom": Cat(kind="cat", lives=9)}
    assert made.tags == ("a", "b")
    with pytest.raises(AttributeError):
        made.train.rate = 1.0
    with pytest.raises((TypeError, ValidationError)):
        Inner(0.1, 3, "ce")


def test_an_unknown_key_is_named_with_its_path_and_the_nearest_known_key():
    message = fault(lambda v: v["train"].update(sice=v["train"].pop("size")))
    assert "train.sice" in message
    assert '"size"' in message


def test_an_extra_key_beside_complete_ones_is_named_with_the_nearest():
    message = fault(lambda v: v["train"].update(los="ce"))
    assert "train.los" in message
    assert '"loss"' in message


def test_the_nearest_key_is_found_in_a_section_with_several_kinds():
    message = fault(lambda v: v["pets"]["tom"].update(livs=v["pets"]["tom"].pop("lives")))
    assert '"pets.tom.livs"' in message
    assert '"lives"' in message


def test_an_unknown_section_is_named():
    assert '"trian"' in fault(lambda v: v.update(trian={}))


def test_a_missing_key_is_named_with_its_path():
    assert '"train.loss"' in fault(lambda v: v["train"].pop("loss"))
    assert '"train"' in fault(lambda v: v.pop("train"))
    assert '"pets.tom.lives"' in fault(lambda v: v["pets"]["tom"].pop("lives"))


@pytest.mark.parametrize("wrong", ["3", 3.5, True, None, [3]])
def test_a_wrong_type_is_named_with_its_path(wrong):
    assert '"train.size"' in fault(lambda v: v["train"].update(size=wrong))


@pytest.mark.parametrize("wrong", ["0.1", True, None])
def test_text_and_truth_values_are_no_numbers(wrong):
    assert '"train.rate"' in fault(lambda v: v["train"].update(rate=wrong))


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
def test_bounds_hold_and_name_the_path(wrong):
    assert '"train.rate"' in fault(lambda v: v["train"].update(rate=wrong))


def test_a_bad_choice_names_path_and_choices():
    message = fault(lambda v: v["train"].update(loss="bec"))
    assert '"train.loss"' in message
    assert "bce" in message


def test_a_bad_choice_of_kind_names_the_whole_path():
    message = fault(lambda v: v["pets"]["tom"].update(kind="cow"))
    assert '"pets.tom.kind"' in message
    assert "dog" in message


def test_a_missing_kind_names_the_whole_path():
    assert '"pets.tom.kind"' in fault(lambda v: v["pets"]["tom"].pop("kind"))


def test_an_item_of_a_list_is_named():
    assert '"tags.1"' in fault(lambda v: v.update(tags=["a", 1]))


def test_the_place_given_stands_before_the_path():
    with pytest.raises(ConfigError, match=r"model\.x\.rate"):
        build(Inner, {"rate": 0, "size": 1, "loss": "ce"}, "model.x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05),
        ("1e5", 1e5),
        ("3", 3),
        ("010", 10),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("[1, a]", [1, "a"]),
        ("12:30", "12:30"),
        ("a=b", "a=b"),
        ("", None),
    ],
)
def test_values_are_read_as_yaml_1_2(tmp_path, text, value):
    assert parse_assignment(f"a.b={text}") == ("a.b", value)
    (tmp_path / "p.yaml").write_text(f"x: {text}\n")
    read = read_yaml(tmp_path / "p.yaml")["x"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["nothing", "=3", " =3", "a.b=[1"])
def test_a_broken_assignment_is_quoted(text):
    with pytest.raises(ConfigError, match="--set"):
        parse_assignment(text)


def test_an_empty_file_has_no_values(tmp_path):
    (tmp_path / "p.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "p.yaml") == {}


def test_a_broken_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("a: 1\nb: [1\nc: 2\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:[23]"):
        read_yaml(path)
    path.write_text("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:3"):
        read_yaml(path)


@pytest.mark.parametrize("content", [b"- 1\n", b"text\n", b"a: \xff\xfe\n"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, content):
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        read_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_an_override_replaces_one_value():
    changed = values()
    override(changed, "train.size", 7)
    override(changed, "pets.tom.lives", 1)
    assert changed == {
        **values(),
        "train": {"rate": 0.1, "size": 7, "loss": "ce"},
        "pets": {"tom": {"kind": "cat", "lives": 1}},
    }


@pytest.mark.parametrize(
    ("key", "nearest"), [("train.sise", "size"), ("trian.size", "train"), ("pets.tim.lives", "tom"), ("tagz", "tags")]
)
def test_an_override_of_an_unknown_key_names_the_nearest(key, nearest):
    changed = values()
    with pytest.raises(ConfigError) as caught:
        override(changed, key, 1, free=("cells",))
    assert key in str(caught.value)
    assert f'"{nearest}"' in str(caught.value)
    assert changed == values()


@pytest.mark.parametrize("key", ["train.size.deep", "", ".", "train."])
def test_an_override_below_a_value_is_an_error(key):
    with pytest.raises(ConfigError):
        override(values(), key, 1)


def test_sections_with_names_of_the_users_own_take_new_names():
    changed = values()
    override(changed, "pets.rex", {"kind": "dog", "age": 2}, free=("pets",))
    assert build(Outer, changed).pets["rex"] == Dog(kind="dog", age=2)


def test_a_preset_is_laid_over_key_by_key():
    changed = values()
    merge(changed, {"train": {"size": 8}, "tags": ["z"]}, ("pets",), ())
    assert changed["train"] == {"rate": 0.1, "size": 8, "loss": "ce"}
    assert changed["tags"] == ["z"]
    assert changed["pets"] == values()["pets"]


def test_a_preset_adds_named_entries_or_replaces_them_as_a_whole():
    rex = {"pets": {"rex": {"kind": "dog", "age": 2}}}
    changed = values()
    merge(changed, rex, ("pets",), ())
    assert changed["pets"] == {**values()["pets"], **rex["pets"]}
    changed = values()
    merge(changed, rex, ("pets",), ("pets",))
    assert changed["pets"] == rex["pets"]


def test_a_preset_with_an_unknown_key_names_path_and_nearest():
    with pytest.raises(ConfigError) as caught:
        merge(values(), {"train": {"sise": 8}}, ("pets",), ())
    assert "train.sise" in str(caught.value)
    assert '"size"' in str(caught.value)


def test_flatten_gives_every_leaf_its_dotted_key():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_a_section_has_one_block_for_every_entry():
    made = section("Both", {"first": Inner, "second": Inner})
    block = {"rate": 0.1, "size": 3, "loss": "ce"}
    assert build(made, {"first": block, "second": block}).second.size == 3
    with pytest.raises(ConfigError, match="second"):
        build(made, {"first": block})
