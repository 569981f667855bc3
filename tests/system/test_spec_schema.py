"""`loam schema` and the parser over one corpus: the schema takes every good file, and of the bad ones exactly those
that it cannot see through, as each says in its `# schema:` line. Also the whole way of `loam check`."""
import json
import os
import pathlib
import subprocess

import jsonschema
import pytest

from corpus import CORPUS, header, schema_problems

BIN = pathlib.Path(os.environ.get("LOAM_BIN", CORPUS.parents[2] / "build/release/bin"))


def files(kind):
    return sorted((CORPUS / kind).glob("*.yaml"))


@pytest.fixture(scope="module")
def schema():
    done = subprocess.run([str(BIN / "loam"), "schema"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_corpus_is_there():
    assert len(files("good")) >= 25
    assert len(files("bad")) >= 45


def test_the_schema_is_one(schema):
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", files("good"), ids=lambda path: path.stem)
def test_the_schema_takes_what_the_parser_takes(schema, path):
    assert schema_problems(schema, path.read_bytes().decode()) == []


@pytest.mark.parametrize("path", files("bad"), ids=lambda path: path.stem)
def test_the_schema_refuses_what_it_can_see(schema, path):
    text = path.read_bytes().decode()
    verdict = header(text, "schema")
    assert verdict in (["accepts"], ["rejects"]), "each bad file says what a schema can see of it"
    problems = schema_problems(schema, text)
    assert bool(problems) == (verdict == ["rejects"]), problems


def test_every_key_is_described(schema):
    """An editor shows a description at each key of the top, or at what it refers to."""
    for key, value in schema["properties"].items():
        assert value.get("description"), key
