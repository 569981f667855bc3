"""The corpus of loam.yaml files, and YAML as the program reads it: version 1.2's core schema."""
import pathlib
import re

import jsonschema
import yaml

CORPUS = pathlib.Path(__file__).resolve().parents[1] / "corpus/spec"


class CoreLoader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2: no yes/no, no octal by a leading zero, 1e-3 is a number, no merge keys."""
    yaml_implicit_resolvers = {}


CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"),
                                 list("tTfF"))
CoreLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
                                 list("-+0123456789"))
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+.0123456789"))


def construct_integer(loader, node):
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


CoreLoader.add_constructor("tag:yaml.org,2002:int", construct_integer)
CoreLoader.add_constructor("tag:yaml.org,2002:float",
                           lambda loader, node: float(loader.construct_scalar(node).replace(".inf", "inf")
                                                      .replace(".Inf", "inf").replace(".INF", "inf")
                                                      .replace(".nan", "nan").replace(".NaN", "nan")
                                                      .replace(".NAN", "nan")))


def schema_problems(schema, text):
    """What an editor with this schema would show; a file that is no YAML is one problem."""
    try:
        document = yaml.load(text, Loader=CoreLoader)
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        return [f"not YAML: {error}"]
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def header(text, key):
    """The values of the file's `# KEY: VALUE` lines."""
    return re.findall(rf"^# {key}: (.*)$", text, re.MULTILINE)
