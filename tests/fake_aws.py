"""EMR, EMR Serverless and EMR on EKS on loopback: requests are held against AWS's own models, answers follow a script.

No more than a job's life: made once by its token, queued, running, over. A test gives the states that a job goes
through, how often the services say that they are asked too much, and, if it likes, what really runs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.session
from botocore.model import OperationModel, Shape

SERVICES = ("emr-serverless", "emr-containers", "emr")
TARGET = "ElasticMapReduce"
LISTS = {"ListApplications"}


def mistakes(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """What a value breaks of its shape: unknown and missing members, types, lengths, patterns, enumerations."""
    kind, rules = shape.type_name, shape.metadata
    types = {
        "structure": dict,
        "map": dict,
        "list": list,
        "string": str,
        "integer": int,
        "long": int,
        "boolean": bool,
        "double": (int, float),
        "float": (int, float),
    }
    if not isinstance(value, types.get(kind, object)):
        yield f"{where}: {value!r} is no {kind}"
        return
    if kind == "structure":
        yield from (f"{where}.{name}: unknown" for name in value if name not in shape.members)
        yield from (f"{where}.{name}: missing" for name in shape.required_members if name not in value)
        for name in value.keys() & shape.members.keys():
            yield from mistakes(value[name], shape.members[name], f"{where}.{name}")
    elif kind == "list":
        for item in value:
            yield from mistakes(item, shape.member, f"{where}[]")
    elif kind == "map":
        for key, item in value.items():
            yield from mistakes(key, shape.key, f"{where} key")
            yield from mistakes(item, shape.value, f"{where}.{key}")
    size = value if isinstance(value, int | float) else len(value)
    if kind != "boolean" and not rules.get("min", size) <= size <= rules.get("max", size):
        yield f"{where}: {value!r} is not within {rules.get('min')} and {rules.get('max')}"
    if kind == "string" and "pattern" in rules and not fits(value, rules["pattern"]):
        yield f"{where}: {value!r} does not fit {rules['pattern']}"
    if kind == "string" and rules.get("enum") and value not in rules["enum"]:
        yield f"{where}: {value!r} is none of {rules['enum']}"


def fits(value: str, pattern: str) -> bool:
    """Whether a string is what a pattern asks; one that Python cannot read asks nothing."""
    try:
        return re.search(f"^(?:{pattern})$", value) is not None
    except re.error:
        return True


@dataclass
class Fake:
    """The services, and what happened.

    Attributes:
        states: which a job goes through, one a look; the last one stays. With details after a colon.
        throttled: how many requests are still refused as too many.
        work: what runs in a thread when a job starts; its answer, once there, is the job's last state.
        asked: (operation, parameters), in order.
    """

    states: list[str] = field(default_factory=lambda: ["SUBMITTED", "RUNNING", "SUCCESS"])
    throttled: int = 0
    work: Callable[[dict[str, Any]], str] | None = None
    cluster: str = "STARTING"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        session = botocore.session.get_session()
        self._models = {name: session.get_service_model(name) for name in SERVICES}
        self._tokens: dict[str, tuple[dict[str, Any], str]] = {}
        self._applications: list[dict[str, Any]] = []
        self._over: str | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def operations(self) -> list[str]:
        """What was asked, without looks."""
        return [name for name, _ in self.asked if not name.startswith(("Get", "Describe", "List"))]

    def parameters(self, operation: str) -> dict[str, Any]:
        """Of the one time that it was asked."""
        (found,) = [parameters for name, parameters in self.asked if name == operation]
        return found

    def answer(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """What a service would say; raises ``KeyError`` with a code for what it refuses."""
        with self._lock:
            self.asked.append((operation, parameters))
            method = getattr(self, f"_{operation}", None) or self._Look
            return method(parameters)

    def _ListApplications(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"applications": self._applications}

    def _GetApplication(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"application": {"applicationId": parameters["applicationId"], "state": "STARTED"}}

    def _CreateApplication(self, parameters: dict[str, Any]) -> dict[str, Any]:
        identity = self._once(parameters, lambda: f"00app{len(self._applications)}")
        known = {k: parameters[k] for k in ("name", "releaseLabel", "architecture")}
        self._applications.append({**known, "id": identity, "arn": "arn", "state": "CREATED", "type": "Spark"})
        return {"applicationId": identity, "arn": "arn"}

    def _StartJobRun(self, parameters: dict[str, Any]) -> dict[str, Any]:
        identity = self._once(parameters, lambda: f"00run{len(self._tokens)}")
        return {"jobRunId": identity, "id": identity, "arn": "arn", "applicationId": "00app0"}

    def _RunJobFlow(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"JobFlowId": "j-NEW"}

    def _AddJobFlowSteps(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"StepIds": ["s-1"]}

    def _ListSteps(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"Steps": [{"Id": "s-1", "Status": {"State": "PENDING"}}]}

    def _DescribeCluster(self, parameters: dict[str, Any]) -> dict[str, Any]:
        state, _, why = self.cluster.partition(": ")
        return {"Cluster": {"Id": "j-NEW", "Status": {"State": state, "StateChangeReason": {"Message": why}}}}

    def _CancelJobRun(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._cancelled = True
        return {"applicationId": "00app0", "jobRunId": "00run0", "id": "00run0"}

    def _TerminateJobFlows(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._cancelled = True
        return {}

    def _CancelSteps(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self._cancelled = True
        return {"CancelStepsInfoList": []}

    def _Look(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if self._cancelled:
            state = "CANCELLED"
        elif self._over is not None or self.work is None:
            state = self._over or (self.states.pop(0) if len(self.states) > 1 else self.states[0])
        else:
            state = "RUNNING"
        state, _, details = state.partition(": ")
        run = {"state": state, "stateDetails": details}
        return {"jobRun": run, "Step": {"Status": {"State": state, "FailureDetails": {"Message": details}}}}

    def _once(self, parameters: dict[str, Any], new: Callable[[], str]) -> str:
        token = parameters["clientToken"]
        rest = {key: value for key, value in parameters.items() if key != "clientToken"}
        if token in self._tokens:
            known, identity = self._tokens[token]
            if known != rest:
                raise KeyError("ConflictException")
            return identity
        identity = new()
        self._tokens[token] = (rest, identity)
        if self.work is not None and "jobDriver" in parameters:
            threading.Thread(target=self._run, args=(parameters,), daemon=True).start()
        return identity

    def _run(self, parameters: dict[str, Any]) -> None:
        assert self.work is not None
        self._over = self.work(parameters)

    def operation_of(
        self, method: str, path: str, target: str | None, scope: str
    ) -> tuple[OperationModel, dict[str, str]]:
        """Which operation a request is, and what its path says."""
        if target:
            return self._models["emr"].operation_model(target.partition(".")[2]), {}
        model = self._models[scope]
        for name in model.operation_names:
            operation = model.operation_model(name)
            uri = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"])
            if operation.http["method"] == method and (found := re.fullmatch(uri, path)):
                return operation, {key: unquote(value) for key, value in found.groupdict().items()}
        raise KeyError("UnknownOperationException")


class _Handler(BaseHTTPRequestHandler):
    fake: Fake

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Any request."""
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        url = urlsplit(self.path)
        scope = re.search(r"/\d{8}/[\w-]+/([\w-]+)/aws4_request", self.headers.get("Authorization", ""))
        try:
            if self.fake.throttled > 0:
                self.fake.throttled -= 1
                raise KeyError("ThrottlingException")
            operation, named = self.fake.operation_of(
                self.command, url.path, self.headers.get("X-Amz-Target"), scope[1] if scope else ""
            )
            query = {key: values if len(values) > 1 else values[0] for key, values in parse_qs(url.query).items()}
            names = {
                shape.serialization.get("name", name): name for name, shape in operation.input_shape.members.items()
            }
            if "states" in query:
                query["states"] = [query["states"]] if isinstance(query["states"], str) else query["states"]
            parameters = {names.get(key, key): value for key, value in {**named, **query, **body}.items()}
            if wrong := list(mistakes(parameters, operation.input_shape)):
                self._reply(400, {"message": "; ".join(wrong)}, "ValidationException")
                return
            self._reply(200, self.fake.answer(operation.name, parameters))
        except KeyError as refused:
            code = str(refused.args[0])
            self._reply(429 if code.startswith("Thro") else 409, {"message": f"{code} by the fake"}, code)

    do_GET = do_DELETE = do_POST

    def _reply(self, status: int, answer: dict[str, Any], code: str = "") -> None:
        content = json.dumps({**answer, **({"__type": code} if code else {})}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if code:
            self.send_header("x-amzn-errortype", code)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(fake: Fake) -> Iterator[dict[str, str]]:
    """The environment that leads clients to the fake."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield {f"AWS_ENDPOINT_URL_{name.upper().replace('-', '_')}": url for name in SERVICES}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
