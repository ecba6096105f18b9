"""Parameters: YAML 1.2, one dotted key for every value, errors that name it and the nearest known one."""

from pathlib import Path
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


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
CHAIN = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}}}\n" for n in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [*x]\n", "refers to itself"),
        ("a: &x {b: *x}\n", "refers to itself"),
        ("a: &x {<<: *x}\n", ""),
        ("a: *x\n", "undefined alias"),
        (BOMB, "too large"),
        (MERGES, "too large"),
        (CHAIN, "too large"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 32 times"),
        ("a: " + "[" * 200_000, "more than 32 times"),
        ("".join(" " * n + "a:\n" for n in range(1000)), "more than 32 times"),
        ("a: 1\na: 2\n", "p.yaml:2"),
        ("1: 2\n", "is no text"),
        ("[a]: 2\n", "is no text"),
        ("{a: 1}: 2\n", "is no text"),
        ("a: {null: 1}\n", "is no text"),
        ("a: .nan\n", '"a": expected a finite number'),
        ("a: {b: [1, -.inf]}\n", '"a.b.1": expected a finite number'),
        ("a: 2020-01-01\n", "put it in quotes"),
        ("a: 2020-99-99\n", "put it in quotes"),
        ("a: !!binary aGk=\n", "parameters have none"),
        ("a: !!python/object:os.system x\n", "parameters have none"),
        ("a: !!int x\n", "not valid YAML"),
        ("%YAML 1.1\n---\na: off\n", "YAML 1.2"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a:\n\tb: 1\n", "p.yaml:2"),
        ("a: x\0y\n", "not valid YAML"),
        ('a: "x\\0y"\n', '"a": expected text without control characters'),
        ('a: "\\x1b[31m"\n', "control characters"),
        (f"a: {'9' * 5000}\n", "not valid YAML"),
        (f"a: {'9' * 30}\n", "64 bits"),
        ("a: x # " + "y" * 1_000_000, "more than 1000000 bytes"),
    ],
    ids=lambda text: str(text)[:12],
)
def test_yaml_that_is_more_than_plain_values_is_refused_in_one_line(tmp_path, text, said):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert len(caught.value.faults) == 1
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "&x [*x]",
        "[" * 3000,
        "[" * 200_000,
        "{1: 2}",
        ".nan",
        "2020-01-01",
        "!!binary aGk=",
        '"\\0"',
        "9" * 5000,
        "x\0y",
        "\udcff",
    ],
    ids=lambda value: value[:12],
)
def test_an_assignment_that_is_more_than_plain_values_is_refused_in_one_short_line(value):
    with pytest.raises(ConfigError, match=r"--set") as caught:
        parse_assignment(f"a.b={value}")
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 300


def test_two_values_of_one_alias_are_changed_one_by_one(tmp_path):
    (tmp_path / "p.yaml").write_text("a: &x {seed: 0}\nb: *x\n")
    read = read_yaml(tmp_path / "p.yaml")
    override(read, "a.seed", 1)
    assert read == {"a": {"seed": 1}, "b": {"seed": 0}}


def test_merge_keys_and_anchors_are_read(tmp_path):
    (tmp_path / "p.yaml").write_text("a: &x {seed: 0, n: 1}\nb: {<<: *x, n: 2}\n")
    assert read_yaml(tmp_path / "p.yaml")["b"] == {"seed": 0, "n": 2}


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(Path("a\0b"))


def faults(change):
    changed = values()
    change(changed)
    with pytest.raises(ConfigError) as caught:
        build(Outer, changed)
    return list(caught.value.faults)


def test_all_faults_are_told_at_once():
    def change(v):
        v["train"].update(rate=0, loss="bec", sice=v["train"].pop("size"))
        v["pets"]["tom"]["lives"] = "nine"
        v["tags"] = ["a", 1]
        v["trian"] = {}

    found = faults(change)
    assert [fault.split('"')[1] for fault in found] == [
        *("train.rate", "train.loss", "train.sice", "pets.tom.lives", "tags.1", "trian"),
    ]
    assert 'did you mean "bce"' in found[1]


@config
class Named:
    word: str
    low: int


@config
class Listed:
    of: tuple[int, ...]


@config
class Unions:
    number_or_word: Literal["all", "none"] | Annotated[int, Field(ge=2)]
    section: Named | Listed
    mixed: int | Named


def union_faults(**changes):
    good = {"number_or_word": 2, "section": {"of": [1]}, "mixed": 1}
    build(Unions, good)
    with pytest.raises(ConfigError) as caught:
        build(Unions, {**good, **changes})
    return list(caught.value.faults)


def test_a_value_of_several_kinds_is_told_once_without_the_names_of_types():
    [fault] = union_faults(number_or_word="al")
    assert fault.startswith("parameter \"number_or_word\": expected 'all' or 'none' or a valid integer, found")
    assert 'did you mean "all"' in fault
    [fault] = union_faults(mixed="x")
    assert "a valid integer or a mapping" in fault


def test_a_section_of_several_kinds_is_told_as_the_one_that_was_meant():
    assert union_faults(section={"fo": [1]}) == ['unknown parameter "section.fo"; did you mean "of"?']
    assert union_faults(section={"word": "x", "lwo": 1}) == ['unknown parameter "section.lwo"; did you mean "low"?']
    [fault] = union_faults(mixed={"word": "x", "low": "y"})
    assert fault.startswith('parameter "mixed.low": expected a valid integer')


def test_every_unknown_key_of_a_preset_is_told_and_the_others_are_laid():
    changed = values()
    with pytest.raises(ConfigError) as caught:
        merge(changed, {"train": {"sise": 8, "los": 1, "rate": 0.5}, "tag": []}, ("pets",), ())
    assert len(caught.value.faults) == 3
    assert changed["train"]["rate"] == 0.5
