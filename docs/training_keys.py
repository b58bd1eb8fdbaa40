"""Prints the table of docs/training.md: every key of a configuration, from the fields that training checks them with.

    python docs/training_keys.py

It writes nothing; tests/training/test_settings.py holds the page to what this prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wifi_densepose_temporal.training.settings import Settings

NAMES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "table"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def kind(schema: dict[str, Any]) -> str:
    """The type of a key in words."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {kind(schema['items'])}"
    bounds = [f"{sign} {schema[bound]:.15g}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join([NAMES[schema["type"]], ", ".join(bounds)]).strip()


def default(schema: dict[str, Any]) -> str:
    """The default in words."""
    if "default" not in schema:
        return "has to be given"
    value = schema["default"]
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"`{value}`"


def rows(schema: dict[str, Any], sections: dict[str, Any], section: str = "") -> Iterator[str]:
    """A line for each key of a section, then those of the sections in it."""
    below = []
    for name, key in schema["properties"].items():
        inner = next((one["$ref"] for one in (key, *key.get("anyOf", [])) if "$ref" in one), None)
        if inner is not None:
            path = f"{section}.{name}".lstrip(".")
            below.append((path, sections[inner.rsplit("/")[-1]]))
            if "description" in key:
                yield f"| `[{path}]` | section | none | {key['description']} |"
            continue
        where = f"[{section}] " if section else ""
        yield f"| `{where}{name}` | {kind(key)} | {default(key)} | {key['description']} |"
    for path, one in below:
        yield from rows(one, sections, path)


def main() -> None:
    """Prints the table."""
    schema = Settings.model_json_schema()
    print("| key | value | default | meaning |\n|---|---|---|---|")  # noqa: T201
    print("\n".join(rows(schema, schema["$defs"])))  # noqa: T201


if __name__ == "__main__":
    main()
