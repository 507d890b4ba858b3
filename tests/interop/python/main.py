"""The Python client of the interoperability tests.

    main.py TRANSPORT put-all DIR PREFIX    stores each file of DIR as PREFIX/NAME
    main.py TRANSPORT get-all PREFIX DIR    lists PREFIX/ and fetches each file into DIR
    main.py TRANSPORT scenario PREFIX       the rest of the API, with every error a client meets

TRANSPORT is grpcio, grpcurl or buf. The cluster comes from DFS_NODES, DFS_CLUSTER, DFS_USER and
DFS_PASSWORD, the programs from GRPCURL and BUF.
"""

import os
import sys
from functools import partial
from pathlib import Path

import dfs_pb2 as pb
import rules
from client import Client, NotFound, chunk_stream, describe
from transports import BufCurl, Grpcio, Grpcurl, RpcError

TRANSPORTS = {
    "grpcio": Grpcio,
    "grpcurl": partial(Grpcurl, os.environ.get("GRPCURL", "grpcurl")),
    "buf": partial(BufCurl, os.environ.get("BUF", "buf")),
}


def connect(transport, user=None, password=None) -> Client:
    env = os.environ
    user, password = user or env["DFS_USER"], password or env["DFS_PASSWORD"]
    nodes = env["DFS_NODES"].split(",")
    return Client(TRANSPORTS[transport], nodes, env["DFS_CLUSTER"], user, password)


def put_all(client: Client, folder: str, prefix: str):
    for file in sorted(Path(folder).iterdir()):
        client.put(f"{prefix}/{file.name}", file.read_bytes())


def get_all(client: Client, prefix: str, folder: str):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path, entry in client.list(f"{prefix}/").items():
        content = client.get(path)
        assert len(content) == entry.size, path
        Path(folder, path.removeprefix(f"{prefix}/")).write_bytes(content)


def refused(code: str, reason: str | None, call, *arguments, **named):
    """Makes a call that has to fail like this."""
    try:
        call(*arguments, **named)
    except RpcError as error:
        assert (error.code, error.reason) == (code, reason), f"{error}, not {code} {reason}"
        assert error.message, f"{reason} says nothing to people"
        return
    raise AssertionError(f"{code} {reason} was expected")


def scenario(client: Client, prefix: str, transport: str):
    assert sorted(client.nodes) == [1, 2, 3, 4], "all four nodes are up"
    errors_of_logins(client, transport)
    errors_of_requests(client, f"{prefix}/refused")
    errors_of_uploads(client, f"{prefix}/uploads")
    life_of_a_file(client, f"{prefix}/file")
    listings(client, f"{prefix}/many")


def errors_of_logins(client, transport):
    node = client.nodes[1].transport
    try:
        connect(transport, password="wrong")
        raise AssertionError("a wrong password was taken")
    except RpcError as error:
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "INVALID_CREDENTIALS"), error
        assert error.message == "Invalid Username/Password. Please try again.", error
    request = pb.ListRequest()
    refused("UNAUTHENTICATED", "TOKEN_MISSING", node.call, "List", request)
    refused("UNAUTHENTICATED", "TOKEN_EXPIRED", node.call, "List", request, "made-up")


def errors_of_requests(client, path):
    call = client.nodes[2].call
    for bad in ("/a", "a//b", "../a", "a\\b", "a\nb", "x" * 256, ""):
        assert not rules.path_is_valid(bad)
        stat = pb.StatRequest(queries=[pb.StatQuery(path=bad)])
        refused("INVALID_ARGUMENT", "INVALID_FILE_NAME", call, "Stat", stat)
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", call, "Stat", pb.StatRequest())
    stat = pb.StatRequest(queries=[pb.StatQuery(path="a")] * 1001)
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", call, "Stat", stat)
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", call, "List", pb.ListRequest(page_size=-1))
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", call, "GetChunks", pb.GetChunksRequest())
    ranges = [pb.BlockRange(chunk=1)]
    unknown = pb.UploadSource(path=path, upload_id=os.urandom(16), ranges=ranges)
    request = pb.GetChunksRequest(by_upload=unknown)
    refused("NOT_FOUND", "CHUNK_NOT_FOUND", call, "GetChunks", request)
    unknown.ranges[0].chunk = 5
    request = pb.GetChunksRequest(by_upload=unknown)
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", call, "GetChunks", request)
    try:
        client.get(path)
        raise AssertionError("a file that was never written was read")
    except NotFound:
        pass
    try:
        client.delete(path)
        raise AssertionError("a file that was never written was removed")
    except NotFound:
        pass


def errors_of_uploads(client, path):
    call, content = client.nodes[3].call, b"some content of a file"
    manifest, upload = describe(content), os.urandom(16)
    stream = partial(chunk_stream, path, upload)

    def spoiled(change, content=content, manifest=manifest):
        messages = list(stream(manifest, content, [1]))
        change(messages)
        return messages

    def reason(expected, change, code="INVALID_ARGUMENT"):
        refused(code, expected, call, "PutChunk", spoiled(change))

    reason("CHECKSUM_MISMATCH", lambda m: setattr(m[1].block, "crc32c", 1))
    reason("CHECKSUM_MISMATCH", lambda m: setattr(m[1].block, "data", b"other"))
    reason("INVALID_FILE_NAME", lambda m: setattr(m[0].header, "path", "/a"))
    reason("INVALID_ARGUMENT", lambda m: m.pop(0))
    reason("INVALID_ARGUMENT", lambda m: m.pop(1))
    reason("INVALID_ARGUMENT", lambda m: m.clear())
    reason("INVALID_ARGUMENT", lambda m: setattr(m[0].header, "upload_id", b"short"))
    reason("INVALID_ARGUMENT", lambda m: setattr(m[0].header.manifest, "x", manifest.x ^ 1))
    reason("INVALID_ARGUMENT", lambda m: setattr(m[0].header.manifest, "size", 2**50 + 1))
    reason("CHECKSUM_MISMATCH", lambda m: setattr(m[1].block, "index", 1))
    reason("NOT_STAGED", lambda m: setattr(m[0].header, "first_block", 1), "FAILED_PRECONDITION")
    large = bytes(5 << 20)
    oversized = list(stream(describe(large), large, [1]))
    oversized[1].block.data = large[: 5 << 18]
    oversized[1].block.crc32c = rules.crc32c(oversized[1].block.data)
    refused("INVALID_ARGUMENT", "CHECKSUM_MISMATCH", call, "PutChunk", oversized[:2])
    oversized[1].block.data = large
    # That one gRPC refuses itself, before the node sees it.
    refused("OUT_OF_RANGE", "MESSAGE_TOO_LARGE", call, "PutChunk", oversized[:2])

    def commit(**changes):
        record = pb.Record(
            tag=pb.Tag(hlc=1 << 40, writer=os.urandom(16)),
            kind=pb.KIND_FILE,
            upload_id=upload,
            manifest=manifest,
        )
        record.MergeFrom(pb.Record(**changes))
        entry = pb.CommitEntry(path=path, record=record)
        (result,) = call("Commit", pb.CommitRequest(entries=[entry])).results
        return result.refusal.reason

    assert commit() == "NOT_PREPARED"
    assert commit(tag=pb.Tag(hlc=1 << 63)) == "FUTURE_TAG"
    ref = pb.UploadRef(path=path, upload_id=upload)
    dropped = pb.DropRequest(entries=[pb.DropEntry(upload=ref, never_committed=True)])
    (result,) = call("Drop", dropped).results
    assert result.refusal.reason == "UPLOAD_NOT_FENCED", result
    (result,) = call("PutChunk", list(stream(manifest, content, [1, 2]))).results[1:]
    assert not result.HasField("refusal")
    query = call("QueryUpload", pb.QueryUploadRequest(upload=ref))
    assert query.have == rules.mask([1, 2]) and not query.committed, query
    assert list(query.durable_bytes) == [5, 6, 0, 0], query
    (fenced,) = call("Fence", pb.FenceRequest(uploads=[ref])).results
    assert not fenced.HasField("refusal") and not fenced.HasField("committed"), fenced
    assert commit() == "UPLOAD_FENCED"
    (result,) = call("PutChunk", list(stream(manifest, content, [1]))).results
    assert result.refusal.reason == "UPLOAD_FENCED", result
    (result,) = call("Drop", dropped).results
    assert not result.HasField("refusal"), result


def life_of_a_file(client, path):
    first, second = b"the first version", bytes(range(256)) * 20_000
    for content in (first, second):
        record = client.put(path, content)
        manifest = record.manifest
        assert client.get(path) == content
        request = pb.StatRequest(queries=[pb.StatQuery(path=path)])
        for position, node in client.nodes.items():
            (stat,) = node.call("Stat", request).stats
            assert stat.current.tag == record.tag and stat.confirmed, (position, stat)
            home = rules.mask(rules.chunks_of(manifest.x, position))
            assert stat.current.have == home, (position, stat)
        by_upload(client, path, record, content)
    one = client.nodes[1].call("Stat", pb.StatRequest(
        queries=[pb.StatQuery(path=path, upload_id=record.upload_id)], include_superseded=True
    )).stats[0]
    assert [old.manifest.size for old in one.superseded] == [len(first)], one
    assert one.upload_have == one.current.have, one
    client.delete(path)
    try:
        client.get(path)
        raise AssertionError("a removed file was read")
    except NotFound:
        pass
    (entry,) = client.nodes[4].call("List", pb.ListRequest(prefix=path)).entries
    assert entry.kind == pb.KIND_TOMBSTONE and entry.confirmed, entry
    assert path not in client.list(path)


def by_upload(client, path, record, content):
    """Blocks by upload id, one range of each chunk that a node has."""
    for position, node in client.nodes.items():
        chunks = rules.chunks_of(record.manifest.x, position)
        ranges = [pb.BlockRange(chunk=chunk, block_count=1) for chunk in chunks]
        source = pb.UploadSource(path=path, upload_id=record.upload_id, ranges=ranges)
        answers = node.call("GetChunks", pb.GetChunksRequest(by_upload=source))
        for chunk, answer in zip(chunks, answers, strict=True):
            start, end = rules.chunk_range(len(content), chunk)
            block = answer.block
            assert block.chunk == chunk and block.data == content[start:end][: rules.BLOCK]
            assert block.crc32c == rules.crc32c(block.data)


def listings(client, prefix):
    names = [f"{prefix}/{number}" for number in range(5)]
    for name in names:
        client.put(name, name.encode())
    client.delete(names.pop(3))
    for page_size in (0, 1, 2):
        found = client.list(f"{prefix}/", page_size)
        assert list(found) == names, found
    full = client.nodes[1].call("List", pb.ListRequest(prefix=f"{prefix}/", view=pb.LIST_VIEW_FULL))
    assert full.entries[0].manifest.md5 == rules.md5(names[0].encode())
    token = client.nodes[1].call("List", pb.ListRequest(page_size=1)).next_page_token
    request = pb.ListRequest(prefix="other", page_token=token)
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", client.nodes[1].call, "List", request)


def main(transport, command, *arguments):
    client = connect(transport)
    match command:
        case "put-all":
            put_all(client, *arguments)
        case "get-all":
            get_all(client, *arguments)
        case "scenario":
            scenario(client, *arguments, transport)
        case _:
            sys.exit(__doc__)


main(*sys.argv[1:])
