"""YAML: duplicate keys and files that expand to fill the memory are refused."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from cascade.errors import ConfigError
from cascade.files.yaml_files import load_yaml_model

ROOT = Path(__file__).parents[2]


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml") / "file.yaml"


def load(path, text):
    path.write_text(text, encoding="utf-8")
    return load_yaml_model(path, Anything, ConfigError).model_dump()


def refusal(path, text):
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    return str(caught.value)


NAMES = st.text("abcdef", min_size=1, max_size=3)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_other_documents_are_read_as_before(path, values):
    assert load(path, yaml.safe_dump(values)) == values


class Named(BaseModel):
    names: tuple[str, ...]


@pytest.mark.parametrize("word", ["no", "yes", "on", "null", "~", "1", "1e3", "1.5", "0x1F", "2001-01-01", "1:30"])
def test_a_word_that_yaml_does_not_read_as_a_text_is_refused_with_the_remedy(path, word):
    path.write_text(f"names: [{word}]", encoding="utf-8")
    if isinstance(yaml.safe_load(word), str):
        assert load_yaml_model(path, Named, ConfigError).names == (word,)
        return
    with pytest.raises(ConfigError, match=r"names.0: must be a text; put it in quotes"):
        load_yaml_model(path, Named, ConfigError)
    path.write_text(f"names: ['{word}']", encoding="utf-8")
    assert load_yaml_model(path, Named, ConfigError).names == (word,)


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.name)
def test_anchors_and_merges_of_the_examples_are_read(path, example):
    text = example.read_text(encoding="utf-8")
    assert load(path, text) == yaml.safe_load(text)


@given(
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    st.integers(0, 3),
    st.sampled_from(["block", "flow"]),
    st.data(),
)
def test_a_duplicate_key_is_refused_at_any_depth(path, values, depth, style, data):
    key = data.draw(st.sampled_from(sorted(values)))
    lines = yaml.safe_dump(values, default_flow_style=style == "flow", width=10**6).splitlines()
    again = yaml.safe_dump({key: 1}, default_flow_style=style == "flow").strip()
    if style == "flow":
        lines[0] = "{" + again[1:-1] + ", " + lines[0][1:]
    else:
        lines.append(again)
    text = "\n".join(lines)
    for _ in range(depth):
        text = "outer:\n" + "\n".join(f"  {line}" for line in text.splitlines())
    message = refusal(path, text)
    assert f"the key {key!r} is in lines " in message


def test_the_lines_of_a_duplicate_key_are_reported(path):
    message = refusal(path, "serving:\n  port: 1\n  host: a\n  'port': 2\n  host: b\n")
    assert "the key 'port' is in lines 2, 4 of one mapping" in message
    assert "the key 'host' is in lines 3, 5" in message


@pytest.mark.parametrize("empty", ["[]", "{}", '"' + "x" * 50 + '"'])
def test_aliases_that_multiply_are_refused_at_once(path, empty):
    layers = [f"a0: &a0 {empty}"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    start = time.perf_counter()
    assert "aliases" in refusal(path, "\n".join(layers))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {b: [1, {c: *a}]}"])
def test_a_value_that_contains_itself_is_refused(path, text):
    assert "aliases" in refusal(path, text)
