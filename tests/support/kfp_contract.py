"""KFP's published contract (its swagger file): what a request may hold, and an answer."""

import copy
import email
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml


class Contract:
    """The requests and answers that the swagger file allows."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text())
        self._definitions = copy.deepcopy(document["definitions"])
        for schema in self._definitions.values():
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
        self._operations = [
            (method.upper(), re.compile(self._pattern(template)), operation)
            for template, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    @staticmethod
    def _pattern(template: str) -> str:
        parts = re.split(r"\{[^}]+\}", template)
        return "[^/:]+".join(re.escape(part) for part in parts) + "$"

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        for known, pattern, operation in self._operations:
            if known == method and pattern.match(path):
                return operation
        return None

    def request_errors(
        self, operation: dict[str, Any], query: dict[str, list[str]], headers: Any, body: bytes
    ) -> list[str]:
        parameters = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
        errors = [f"unknown query {name}" for name in query if name not in parameters]
        for name, values in query.items():
            if len(values) != 1:
                errors.append(f"{name} comes {len(values)} times")
            kind = parameters.get(name, {}).get("type")
            if kind == "integer" and not values[0].isdecimal():
                errors.append(f"{name} is no whole number")
        places = {parameter["in"]: parameter for parameter in operation.get("parameters", [])}
        if "formData" in places:
            return errors + self._upload_errors(places["formData"]["name"], headers, body)
        if "body" not in places:
            return errors + (["has a body"] if body else [])
        if headers.get_content_type() != "application/json":
            errors.append(f"body is {headers.get_content_type()}")
        return errors + self._schema_errors(places["body"]["schema"], json.loads(body))

    @staticmethod
    def _upload_errors(name: str, headers: Any, body: bytes) -> list[str]:
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body)
        parts = message.get_payload() if message.is_multipart() else []
        names = [part.get_param("name", header="content-disposition") for part in parts]
        if names != [name]:
            return [f"form has {names}, not {name}"]
        documents = list(yaml.safe_load_all(parts[0].get_payload(decode=True)))
        return [] if "pipelineInfo" in documents[0] else ["no pipeline in the file"]

    def answer_errors(self, operation: dict[str, Any], answer: Any) -> list[str]:
        return self._schema_errors(operation["responses"]["200"]["schema"], answer)

    def _schema_errors(self, schema: dict[str, Any], value: Any) -> list[str]:
        whole = {"definitions": self._definitions, "allOf": [schema]}
        errors = jsonschema.Draft4Validator(whole).iter_errors(value)
        return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]
