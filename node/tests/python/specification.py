"""The specification of an Ory service, and calls that are judged by it.

`fixtures/*.openapi.json` holds the paths and shapes that Ory publishes. A call names
its operation; the answer's status must be one that the operation declares, and its
body must be of the shape declared for that status: types, required fields, enums,
formats.
"""

import json
import os
import urllib.parse

import jsonschema
import urllib3

FIXTURES = os.path.join(os.path.dirname(__file__), "..", "fixtures")
METHODS = ("get", "put", "post", "patch", "delete")
FORMATS = jsonschema.FormatChecker(formats=("date-time", "uuid"))


class Answer:
    def __init__(self, operation, response):
        self.operation = operation
        self.status = response.status
        self.headers = response.headers
        self.raw = response.data
        kind = response.headers.get("Content-Type", "")
        self.body = json.loads(response.data) if "json" in kind and response.data else None
        self.cookies = {}
        for line in response.headers.getlist("Set-Cookie"):
            name, _, value = line.split(";", 1)[0].partition("=")
            self.cookies[name.strip()] = value


class Specification:
    def __init__(self, name):
        with open(os.path.join(FIXTURES, f"{name}.openapi.json"), encoding="utf-8") as file:
            self.document = json.load(file)
        self.operations = {}
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                if method in METHODS:
                    self.operations[operation["operationId"]] = (method.upper(), path, operation)
        self.schemas = {"components": {"schemas": {
            name: _converted(schema)
            for name, schema in self.document["components"]["schemas"].items()}}}
        # Kratos itself says the error there as it does everywhere, not once more within.
        moved = self.schemas["components"]["schemas"].get("errorBrowserLocationChangeRequired")
        if moved:
            moved["properties"]["error"] = {"$ref": "#/components/schemas/genericError"}

    def judge(self, answer):
        """Raises an AssertionError that says where an answer is not as specified."""
        method, path, operation = self.operations[answer.operation]
        said = f"{answer.operation} ({method} {path}) answered {answer.status}"
        responses = operation["responses"]
        declared = responses.get(str(answer.status))
        if declared is None and answer.status >= 400:
            declared = responses.get("default")
        assert declared is not None, f"{said}, which it does not declare: {answer.raw[:500]}"
        if "$ref" in declared:
            declared = self.document["components"]["responses"][declared["$ref"].split("/")[-1]]
        content = declared.get("content", {}).get("application/json")
        if content is None or "schema" not in content:
            return
        if "script" in answer.headers.get("Content-Type", ""):
            return  # A script, which the specification calls JSON for want of a better word.
        assert answer.body is not None, f"{said} without the JSON that it declares"
        schema = dict(_converted(content["schema"]), **self.schemas)
        errors = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
        wrong = [f"{e.json_path}: {e.message[:300]}" for e in errors.iter_errors(answer.body)]
        assert not wrong, f"{said} of another shape: " + "; ".join(wrong[:5])


def _converted(schema):
    """A schema of OpenAPI 3.0 in the words of JSON Schema: null, and discriminators.

    Ory's own services are more liberal than their specification in two things, and so is
    this: what is not required may be null, and an object that declares no properties may
    have some.
    """
    if isinstance(schema, list):
        return [_converted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    out = {key: _converted(value) for key, value in schema.items()
           if key not in ("nullable", "discriminator")}
    if out.get("additionalProperties") is False and not out.get("properties"):
        del out["additionalProperties"]
    if isinstance(schema.get("properties"), dict):
        required = schema.get("required", [])
        out["properties"] = {
            name: inner if name in required else {"anyOf": [inner, {"type": "null"}]}
            for name, inner in out["properties"].items()}
    mapping = schema.get("discriminator", {}).get("mapping")
    if mapping and "oneOf" in out:
        name = schema["discriminator"]["propertyName"]
        del out["oneOf"]
        out["anyOf"] = [
            {"required": [name], "properties": {name: {"const": value}},
             "allOf": [{"$ref": reference}]}
            for value, reference in mapping.items()]
    if schema.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
        if "enum" in out:
            out["enum"] = out["enum"] + [None]
    return out


class Caller:
    """Calls operations, each on the next node, and remembers which it called."""

    def __init__(self, specification, public, admin):
        self.specification = specification
        self.public, self.admin = public, admin
        self.http = urllib3.PoolManager(retries=False)
        self.called = {}
        self.turn = 0

    def close(self):
        self.http.clear()

    def __call__(self, operation, *, path=None, query=None, body=None, text=None,
                 token=None, cookies=None, headers=None, status=None):
        method, template, _ = self.specification.operations[operation]
        filled = template.format(**{k: urllib.parse.quote(v, safe="")
                                    for k, v in (path or {}).items()})
        urls = self.admin if filled.startswith(("/admin", "/relation-tuples/admin")) else self.public
        url = urls[self.turn % len(urls)] + filled
        self.turn += 1
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        sent = {"Accept": "application/json", **(headers or {})}
        if token:
            sent["X-Session-Token"] = token
        if cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in cookies.items())
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body)
        elif text is not None:
            sent["Content-Type"] = "text/plain"
            data = text
        response = self.http.request(method, url, body=data, headers=sent, redirect=False)
        answer = Answer(operation, response)
        self.specification.judge(answer)
        if status is not None:
            assert answer.status == status, (
                f"{operation} answered {answer.status} instead of {status}: {answer.raw[:800]}")
        self.called.setdefault(operation, set()).add(answer.status)
        return answer
