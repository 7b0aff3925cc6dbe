"""Pipelines, versions and parameters as KFP's API server keeps and checks them.

As in kubeflow/pipelines 2.17.0, below backend/src/apiserver:
- names are unique, display names are not (model/pipeline.go, model/pipeline_version.go);
- an upload that the account is not allowed is a 400 without a reason, and errors of uploads are
  `error_message` (server/pipeline_upload_server.go), while a create is a 403;
- the first version that is made with its pipeline has the pipeline's name;
- runtime parameters are compared with the root's input definitions (template/v2_template.go,
  validatePipelineJobInputs), for a schedule of the latest version against that version
  (resource/resource_manager.go, CreateJob);
- a run names the version that it was made of, also if the request named only the pipeline
  (resource_manager.go, fetchTemplateFromPipelineSpec), and no text (server/api_converter.go,
  toApiRun); a schedule names what its request named.
"""

import email
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from kfp_http import Refusal, Request

Json = dict[str, Any]
_KINDS = {
    "NUMBER_DOUBLE": ((int, float), "type double or integer", "number"),
    "NUMBER_INTEGER": ((int, float), "type double or integer", "number"),
    "STRING": ((str,), "type string", "string"),
    "BOOLEAN": ((bool,), "type bool", "bool"),
    "LIST": ((list,), "type list", "list"),
    "STRUCT": ((dict,), "type struct", "struct"),
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Pipelines:
    """What the Pipelines page shows.

    Attributes:
        may_create: whether the account may create pipelines and versions.
        page: most entries of an answer, whatever is asked for.
        ignores_case: whether names are compared without case, as MySQL does.
    """

    def __init__(self) -> None:
        self.pipelines: list[Json] = []
        self.versions: list[Json] = []
        self.may_create = True
        self.page = 100
        self.ignores_case = False
        self._hidden: dict[str, int] = {}

    def hide(self, made: Json, *, looks: int) -> None:
        """An object is listed only after some looks, since it becomes READY after its insertion."""
        self._hidden[made["created_at"] + made["name"]] = looks

    def _is_listed(self, one: Json) -> bool:
        key = str(one.get("created_at")) + str(one.get("name"))
        self._hidden[key] = self._hidden.get(key, 0) - 1
        return self._hidden[key] < 0

    def answer(self, request: Request, parts: list[str]) -> Json | None:
        match (request.method, parts):
            case ("GET", []):
                namespace = request.query.get("namespace", "")
                found = [one for one in self.pipelines if one.get("namespace", "") == namespace]
                return self.listed("pipelines", found, request)
            case ("POST", []):
                return self.create(request.body)
            case ("POST", ["upload"]):
                return self._upload(request)
            case ("POST", ["upload_version"]):
                return self._upload_version(request)
            case ("GET", [pipeline]):
                return next((p for p in self.pipelines if p["pipeline_id"] == pipeline), None)
            case ("GET", [pipeline, "versions"]):
                found = [v for v in self.versions if v["pipeline_id"] == pipeline]
                return self.listed("pipeline_versions", found, request)
            case ("GET", [pipeline, "versions", version]):
                return self.version(pipeline, version)
        return None

    def version(self, pipeline: str, version: str) -> Json | None:
        wanted = (pipeline, version)
        return next(
            (v for v in self.versions if (v["pipeline_id"], v["pipeline_version_id"]) == wanted),
            None,
        )

    # --- creation ---------------------------------------------------------------------------

    def create(self, body: Json) -> Json:
        name = body.get("name") or body.get("display_name") or ""
        if not self.may_create:
            message = "Failed to create a pipeline due to authorization error. Check if you have"
            raise Refusal(403, 7, f"{message} write permissions to namespace ")
        if not name:
            raise Refusal(400, 3, "Failed to create a pipeline: Invalid input error: name required")
        namespace = body.get("namespace", "")
        if any(self._same(p, name) and p.get("namespace", "") == namespace for p in self.pipelines):
            message = f"Failed to create a new pipeline. The name {name} already exist."
            raise Refusal(409, 6, f"Failed to create a pipeline: Already exist error: {message}")
        made = {"display_name": name, **body, "pipeline_id": _id(), "name": name}
        made["created_at"] = _now(len(self.pipelines))
        self.pipelines.append(made)
        return made

    def _upload(self, request: Request) -> Json:
        """A pipeline and its first version in one transaction."""
        if not self.may_create:
            raise UploadRefusal(400, "Failed to create a pipeline")
        try:
            made = self.create({k: v for k, v in request.query.items() if k != "tags"})
        except Refusal:
            message = "Failed to create a pipeline and a pipeline version"
            raise UploadRefusal(409, message) from None
        self._add(request, made["pipeline_id"], made["name"])
        return made

    def _upload_version(self, request: Request) -> Json:
        pipeline = request.query.get("pipelineid", "")
        is_known = any(p["pipeline_id"] == pipeline for p in self.pipelines)
        if not self.may_create or not is_known:
            raise UploadRefusal(400, "Failed to create a pipeline version")
        name = request.query.get("name") or "pipeline.yaml"
        if any(v["pipeline_id"] == pipeline and self._same(v, name) for v in self.versions):
            raise UploadRefusal(409, "Failed to create a pipeline version")
        return self._add(request, pipeline, name)

    def _add(self, request: Request, pipeline: str, name: str) -> Json:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = email.message_from_bytes(head + request.body).get_payload()
        spec, *platform = yaml.load_all(part.get_payload(decode=True), Loader=_LOADER)
        whole = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        version = {
            "pipeline_id": pipeline,
            "pipeline_version_id": _id(),
            "name": name,
            "display_name": request.query.get("display_name") or name,
            "description": request.query.get("description", ""),
            "created_at": _now(len(self.versions)),
            "pipeline_spec": whole,
        }
        self.versions.append(version)
        return version

    def _same(self, one: Json, name: str) -> bool:
        fold = str.casefold if self.ignores_case else str
        return fold(str(one.get("name"))) == fold(name)

    # --- lists ------------------------------------------------------------------------------

    def listed(self, key: str, things: list[Json], request: Request) -> Json:
        """A page of what fits the filter, in the wanted order (server/list_request_util.go)."""
        query = request.query
        fold = str.casefold if self.ignores_case else str
        things = [one for one in things if self._is_listed(one)]
        for same in json.loads(query.get("filter", "{}")).get("predicates", []):
            assert same["operation"] == "EQUALS"
            wanted = fold(same["stringValue"])
            things = [one for one in things if fold(str(one.get(same["key"], ""))) == wanted]
        field, _, direction = query.get("sort_by", "created_at").partition(" ")
        things = sorted(
            things, key=lambda one: str(one.get(field)), reverse=direction.lower() == "desc"
        )
        first = int(query.get("page_token", "0"))
        following = first + min(self.page, int(query.get("page_size", "20")))
        more = {"next_page_token": str(following)} if following < len(things) else {}
        return {key: things[first:following], "total_size": len(things), **more}

    # --- what runs --------------------------------------------------------------------------

    def source_of(self, body: Json) -> tuple[Json, Json]:
        """What an object names as its pipeline, and the text of it.

        Raises:
            Refusal: there is no such version.
        """
        named = body.get("pipeline_version_reference") or {}
        if not named:
            spec = body.get("pipeline_spec", {})
            return {"pipeline_spec": spec}, spec
        if "pipeline_spec" in body:
            raise Refusal(400, 3, 'proto: error parsing "pipeline_spec", oneof is already set')
        of_it = [v for v in self.versions if v["pipeline_id"] == named["pipeline_id"]]
        wanted = named.get("pipeline_version_id")
        found = [v for v in of_it if wanted in (None, "", v["pipeline_version_id"])]
        if not found:
            message = f"ResourceNotFoundError: PipelineVersion {wanted} not found"
            raise Refusal(404, 5, f"Failed to fetch a template: {message}")
        newest = max(found, key=lambda version: str(version["created_at"]))
        reference = {
            "pipeline_id": newest["pipeline_id"],
            "pipeline_version_id": newest["pipeline_version_id"],
        }
        return {"pipeline_version_reference": reference}, newest["pipeline_spec"]


def check_parameters(spec: Json, body: Json, failed: str) -> None:
    """Hold runtime parameters against the definitions, as `validatePipelineJobInputs` does."""
    root = (spec.get("pipeline_spec") or spec).get("root") or {}
    wanted = (root.get("inputDefinitions") or {}).get("parameters") or {}
    given = (body.get("runtime_config") or {}).get("parameters") or {}
    problem = ""
    for name, definition in wanted.items():
        kinds, needs, is_no = _KINDS[definition["parameterType"]]
        if name not in given:
            if not definition.get("isOptional") and definition.get("defaultValue") is None:
                problem = (
                    f"parameter {name} is not optional, yet has neither default value nor user "
                    "provided value"
                )
        elif not isinstance(given[name], kinds) or (
            isinstance(given[name], bool) and bool not in kinds
        ):
            problem = (
                f"input parameter {name} requires {needs}, but the parameter value is not of "
                f"{is_no} value type"
            )
    extra = [name for name in given if name not in wanted]
    if not problem and extra:
        problem = f"parameter(s) provided are not required by pipeline: {', '.join(extra)}"
    if problem:
        raise Refusal(400, 3, f"{failed}: Invalid input error: {problem}")


class UploadRefusal(Refusal):
    """An error of the handlers of uploads, which are no part of the gRPC gateway."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, 0, message)
        self.body = {"error_message": message, "error_details": message}


def _now(number: int) -> str:
    """No two at once: KFP orders by whole seconds."""
    return f"{datetime.now(UTC) + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}"


def _id() -> str:
    return str(uuid.uuid4())
