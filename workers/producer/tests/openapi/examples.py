"""Checks that every example of an OpenAPI 3.1 document is of the schema that it is an example of."""

import json
import sys

from openapi_schema_validator import OAS31Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

BASE = "urn:openapi"


def places(document):
    """Every media type object, with its place."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            bodies = {"request": operation.get("requestBody", {})} | operation["responses"]
            for name, body in bodies.items():
                for media_type, content in body.get("content", {}).items():
                    yield f"{method} {path} {name} {media_type}", content


def main(file):
    with open(file, encoding="utf-8") as stream:
        document = json.load(stream)
    registry = Registry().with_resource(BASE, DRAFT202012.create_resource(document))
    checked, wrong = 0, []
    for place, content in places(document):
        schema = json.loads(json.dumps(content["schema"]).replace('"#/', f'"{BASE}#/'))
        validator = OAS31Validator(schema, registry=registry, format_checker=OAS31Validator.FORMAT_CHECKER)
        examples = {name: example["value"] for name, example in content.get("examples", {}).items()}
        if "example" in content:
            examples["example"] = content["example"]
        for name, example in examples.items():
            checked += 1
            wrong += [f"{place}, {name}: {error.json_path}: {error.message}" for error in validator.iter_errors(example)]
    print(f"{checked} examples")
    if wrong or not checked:
        sys.exit("\n".join(wrong) or "there is no example")


main(sys.argv[1])
