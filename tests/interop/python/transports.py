"""Three ways to one node: grpcio, grpcurl and buf curl. All raise RpcError.

DFS_TLS_CA names the authority that signed the nodes' certificates; without it nothing is encrypted.
"""

import base64
import json
import os
import subprocess
import threading

import dfs_pb2 as pb
from google.protobuf import json_format
from google.rpc import error_details_pb2

CA = os.environ.get("DFS_TLS_CA")
SERVICE = "dfs.v1.DfsService"
METHODS = pb.DESCRIPTOR.services_by_name["DfsService"].methods_by_name


class RpcError(Exception):
    """A call that failed: the code's name, the reason of its ErrorInfo, and the message."""

    def __init__(self, code: str, reason: str | None, message: str):
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


def reason_of(details: list[tuple[str, bytes]]) -> str | None:
    for name, value in details:
        if name.endswith("google.rpc.ErrorInfo"):
            info = error_details_pb2.ErrorInfo.FromString(value)
            assert info.domain == "dfs.v1", info
            return info.reason
    return None


class Grpcio:
    """The C core of gRPC, by generated code."""

    def __init__(self, address: str):
        import dfs_pb2_grpc
        import grpc

        self.grpc = grpc
        options = [("grpc.max_receive_message_length", 4 << 20)]
        if CA:
            with open(CA, "rb") as file:
                trusted = grpc.ssl_channel_credentials(file.read())
            self.channel = grpc.secure_channel(address, trusted, options)
        else:
            self.channel = grpc.insecure_channel(address, options)
        self.stub = dfs_pb2_grpc.DfsServiceStub(self.channel)

    def _error(self, error) -> RpcError:
        from grpc_status import rpc_status

        status = rpc_status.from_call(error)
        details = [(any.type_url, any.value) for any in status.details] if status else []
        return RpcError(error.code().name, reason_of(details), error.details())

    def call(self, method: str, request, token: str | None = None, timeout: float = 5):
        """`request` is a message, or a list of messages for a stream of them."""
        metadata = [("authorization", f"Bearer {token}")] if token else []
        if METHODS[method].client_streaming:
            request = iter(request)
        try:
            answer = getattr(self.stub, method)(request, timeout=timeout, metadata=metadata)
            return list(answer) if METHODS[method].server_streaming else answer
        except self.grpc.RpcError as error:
            raise self._error(error) from None


class _Program:
    """A program for the command line that takes and gives JSON."""

    # A program is started per call; more at a time would only wait for each other.
    running = threading.Semaphore(2)

    def __init__(self, program: str, address: str):
        self.program, self.address = program, address

    def call(self, method: str, request, token: str | None = None, timeout: float = 5):
        described = METHODS[method]
        messages = request if described.client_streaming else [request]
        text = "\n".join(
            json_format.MessageToJson(m, preserving_proto_field_name=True, indent=None)
            for m in messages
        )
        header = ["-H", f"authorization: Bearer {token}"] if token else []
        for attempt in range(3):
            with self.running:
                done = subprocess.run(
                    self.command(method, header, timeout),
                    input=text,
                    capture_output=True,
                    text=True,
                    timeout=timeout + 20,
                )
            if not (described.server_streaming and self.lost_count(done.stderr)):
                break
        if done.returncode != 0:
            raise self.error(done.stderr)
        answer = getattr(pb, described.output_type.name)
        answers = [json_format.ParseDict(value, answer()) for value in values(done.stdout)]
        if described.server_streaming:
            return answers
        (only,) = answers
        return only

    @staticmethod
    def lost_count(stderr: str) -> bool:
        """Whether gRPC for Go has miscounted what it allowed the node to send. On a new
        connection it widens its window as it measures the connection; a call that begins at that
        moment keeps the former limit of 65,535 bytes, and the node, which was told of the wider
        one, goes past it. About one answer of 100 KB in 500; a reader just asks again."""
        return "unexpected EOF" in stderr or "exceeding the limit" in stderr


class Grpcurl(_Program):
    """The real grpcurl; it learns the API from the node, by reflection."""

    def command(self, method, header, timeout):
        mode = ["-cacert", CA] if CA else ["-plaintext"]
        limit = [*mode, "-max-time", str(timeout), "-connect-timeout", "5"]
        return [self.program, *limit, *header, "-d", "@", self.address, f"{SERVICE}/{method}"]

    def error(self, text: str) -> RpcError:
        fields = dict(
            line.strip().split(": ", 1) for line in text.splitlines() if line.startswith("  ")
            if ": " in line
        )
        code = fields.get("Code", "UNKNOWN")
        details = []
        for line in text.splitlines():
            start = line.find("{")
            if start >= 0:
                value = values(text[text.index(line) + start :].split("\n  ", 1)[0])
                details += [(v["@type"], raw(v)) for v in value if "@type" in v]
        return RpcError(upper(code), reason_of(details), fields.get("Message", text))


class BufCurl(_Program):
    """buf curl, with gRPC as its protocol."""

    def command(self, method, header, timeout):
        mode = ["curl", "--protocol", "grpc", "-d", "@-", "--connect-timeout", "5"]
        mode += ["--cacert", CA] if CA else ["--http2-prior-knowledge"]
        url = f"{'https' if CA else 'http'}://{self.address}/{SERVICE}/{method}"
        return [self.program, *mode, *header, url]

    def error(self, text: str) -> RpcError:
        start = text.find("{")
        (error,) = values(text[start:]) if start >= 0 else ({"message": text},)
        details = [(d["type"], unpadded(d["value"])) for d in error.get("details", [])]
        return RpcError(
            error.get("code", "unknown").upper(), reason_of(details), error.get("message", "")
        )


def values(text: str) -> list:
    """JSON values one after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text):
            return found
        value, at = decoder.raw_decode(text, at)
        found.append(value)


def raw(value: dict) -> bytes:
    """The bytes of a detail whose type grpcurl knows, or does not know."""
    if "@value" in value:
        return base64.b64decode(value["@value"])
    fields = {key: field for key, field in value.items() if not key.startswith("@")}
    message = error_details_pb2.ErrorInfo()
    return json_format.ParseDict(fields, message, ignore_unknown_fields=True).SerializeToString()


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def upper(code: str) -> str:
    """InvalidArgument to INVALID_ARGUMENT."""
    return "".join("_" + c if c.isupper() and i else c for i, c in enumerate(code)).upper()
