"""values.yaml, its schema and the program's variables say the same; read as they are, without helm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.chart_doc import CHART, CHART_CRDS, Value, _values, values

from rendered import PARSERS

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
NAMED = re.compile(r"([A-Z][A-Z_]{3,})(?=[:.,; ]|$)")


def keys(loaded: Any, path: str = "") -> Iterator[str]:
    """Of a schema or a values file."""
    for name, below in loaded.items():
        yield f"{path}{name}"
        if isinstance(below, dict):
            yield from keys(below, f"{path}{name}.")


def properties(schema: Json) -> Json:
    """The objects that a schema knows the inside of."""
    return {name: properties(each) if each.get("properties") else None for name, each in schema["properties"].items()}


def subschema(path: str) -> Json:
    found = SCHEMA
    for name in path.split("."):
        found = found["properties"][name]
    reference: str = found.get("$ref", "")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else found


def of_variables() -> list[tuple[Value, str]]:
    """Values whose comment begins with the variable that they become."""
    found = [(value, NAMED.match(value.help)) for value in values(CHART)]
    return [(value, named[1]) for value, named in found if named is not None and "_URL" not in named[1]]


@pytest.mark.parametrize("chart", [CHART, CHART_CRDS], ids=lambda chart: chart.name)
def test_the_schema_knows_every_value_and_no_other(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    known = set(keys(properties(schema))) - {"global", "enabled"}  # what a chart that depends on this one passes down
    written = set(keys(yaml.safe_load((chart / "values.yaml").read_text())))
    inside = {path for path in written if any(path.startswith(f"{value.path}.") for value in values(chart))}
    assert known == written - inside


def test_every_object_of_the_schema_refuses_what_it_does_not_know() -> None:
    def look(schema: Any) -> None:
        if isinstance(schema, dict):
            if schema.get("type") == "object" and "properties" in schema:
                assert schema["additionalProperties"] is False, schema
            for name, each in schema.items():
                if name != "items":  # Kubernetes' own objects
                    look(each)

    look(SCHEMA)


def test_a_value_without_a_comment_is_a_mistake() -> None:
    text = "# of this\nthis: 1\nthat: 2\n"
    with pytest.raises(ValueError, match="that has no comment"):
        list(_values(text, yaml.safe_load(text)))


@pytest.mark.parametrize(("value", "variable"), of_variables(), ids=lambda each: getattr(each, "path", each))
def test_what_the_schema_lets_through_is_what_the_program_takes(value: Value, variable: str) -> None:
    if variable == "GATEWAY_TLS_":
        return
    parse, schema = PARSERS[variable], subschema(value.path)
    for allowed in schema.get("enum", ()):
        if allowed:
            parse(allowed)
    if "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        step = 1 if "integer" in schema["type"] else 0.01
        parse(f"{low:.12g}")
        parse(f"{high:.12g}")
        if variable == "METRICS_PORT":
            return  # 0 is any free port, which nobody would find
        for beyond in (low - step, high + step):
            with pytest.raises(ValueError, match="must be"):
                parse(f"{beyond:.12g}")


def test_every_variable_that_a_comment_names_is_one_of_the_programs() -> None:
    named = {variable for _, variable in of_variables()} - {"GATEWAY_TLS_"}
    assert len(named) > 40
    assert named <= PARSERS.keys()


def test_the_charts_have_the_products_version_and_the_image_that_the_examples_name() -> None:
    for chart in (CHART, CHART_CRDS):
        told = yaml.safe_load((chart / "Chart.yaml").read_text())
        project = re.search(r'^version = "(\d+\.\d+\.\d+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        assert project is not None
        assert told["version"] == told["appVersion"] == project[1]
    examples = "".join(file.read_text() for file in (ROOT / "deploy" / "examples").glob("*.yaml"))
    images = set(re.findall(r"image: (\S+forge-manager\S*)", examples))
    assert images == {f"cardano/forge-manager:{told['appVersion']}"}
