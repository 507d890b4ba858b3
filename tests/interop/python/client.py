"""A client of dfs in Python, written from docs/protocol.md and proto/dfs.proto."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import dfs_pb2 as pb
import rules
from transports import RpcError

NODES = (1, 2, 3, 4)
INLINE = 256 << 10


class Failed(Exception):
    """Nothing happened."""


class Unknown(Exception):
    """It may take effect, whole, or not."""


class NotFound(Exception):
    """There is no such file."""


class Corrupt(Exception):
    """No good copy of some part of the file."""


class Node:
    """One node that we are logged in to."""

    def __init__(self, position, transport, cluster, user, password):
        self.position, self.transport, self.token = position, transport, None
        self.credentials = pb.AuthenticateRequest(user=user, password=password)
        answer = transport.call("Authenticate", self.credentials, timeout=10)
        if answer.node.cluster != cluster or answer.node.position != position:
            raise Failed(f"node {position} is node {answer.node.position} of another cluster")
        self.token, self.identity = answer.token, answer.node

    def call(self, method, request, timeout=5.0):
        try:
            return self.transport.call(method, request, self.token, timeout)
        except RpcError as error:
            if error.reason != "TOKEN_EXPIRED":
                raise
        # The node was restarted: it keeps tokens in memory only.
        self.token = self.transport.call("Authenticate", self.credentials, timeout=10).token
        return self.transport.call(method, request, self.token, timeout)


class Client:
    """Four nodes; one that cannot be reached is left out."""

    def __init__(self, transport, addresses, cluster, user, password):
        self.pool = ThreadPoolExecutor(8)

        def log_in(position):
            try:
                node = transport(addresses[position - 1])
                return Node(position, node, cluster, user, password)
            except RpcError as error:
                if error.reason == "INVALID_CREDENTIALS":
                    raise
                return None

        nodes = self.pool.map(log_in, NODES)
        self.nodes = {node.position: node for node in nodes if node}

    def everywhere(self, method, request_for, nodes=NODES, timeout=5.0):
        """Calls nodes at the same time; answers by position, errors as values."""

        def one(position):
            node = self.nodes.get(position)
            if node is None:
                return RpcError("UNAVAILABLE", None, "was never reached")
            try:
                return node.call(method, request_for(position), timeout)
            except RpcError as error:
                return error

        return dict(zip(nodes, self.pool.map(one, nodes)))

    # ---- PUT

    def put(self, path: str, content: bytes, modified: str | None = None) -> pb.Record:
        manifest = describe(content, modified)
        upload = os.urandom(16)
        home = {node: rules.chunks_of(manifest.x, node) for node in NODES}
        prepared = self.prepare(path, upload, manifest, content, home)
        failed = [node for node in NODES if node not in prepared]
        if len(failed) == 1:
            # The opposite node takes them in; only with it the file is on two whole copies.
            other = rules.opposite(failed[0])
            spilled = {other: home[failed[0]]}
            again = self.prepare(path, upload, manifest, content, spilled)
            failed += [] if again else [other]
            prepared.update(again)
        if len(failed) > 1:
            self.discard(path, upload)
            raise Failed(f"{path}: nodes {failed} took no data")
        answers = [(current_hlc(a.stats[0]), a.stats[0].proposed_hlc) for a in prepared.values()]
        hlc = rules.choose_hlc(answers)
        if hlc is None:
            self.discard(path, upload)
            raise Failed(f"{path}: no tag can be chosen")
        record = pb.Record(
            tag=pb.Tag(hlc=hlc, writer=os.urandom(16)),
            kind=pb.KIND_FILE,
            upload_id=upload,
            manifest=manifest,
        )
        self.commit(path, record, [node_ref(a.node) for a in prepared.values()])
        return record

    def prepare(self, path, upload, manifest, content, chunks_of_nodes):
        """Sends chunks to nodes; returns the answers of those that hold them durably."""

        def stream(position):
            chunks = chunks_of_nodes[position]
            return list(chunk_stream(path, upload, manifest, content, chunks))

        timeout = 30 + len(content) / (1 << 20)
        answers = self.everywhere("PutChunk", stream, tuple(chunks_of_nodes), timeout)

        def good(answer):
            if isinstance(answer, RpcError) or answer.node.status != pb.NODE_STATUS_SERVING:
                return False
            return not any(result.HasField("refusal") for result in answer.results)

        return {position: answer for position, answer in answers.items() if good(answer)}

    def commit(self, path, record, sources):
        """The commit round: the same Commit to all four, done at three acknowledgements."""
        entry = pb.CommitEntry(path=path, record=record, sources=sources)
        request = pb.CommitRequest(entries=[entry])
        started, acked, refused, maybe = time.monotonic(), set(), {}, set()
        todo = set(NODES)
        for _ in range(3):
            answers = self.everywhere("Commit", lambda _: request, tuple(sorted(todo)))
            for position, answer in answers.items():
                if isinstance(answer, RpcError):
                    maybe.add(position)
                elif answer.results[0].HasField("refusal"):
                    refused[position] = answer.results[0].refusal.reason
                else:
                    acked.add(position)
            todo -= acked | set(refused)
            if len(acked) >= 3:
                break
        if len(acked) < 3 or time.monotonic() - started > 60:
            if len(refused) == 4 and not maybe:
                raise Failed(f"{path}: refused: {refused}")
            raise Unknown(f"{path}: committed on {sorted(acked)}, refused: {refused}")
        confirm = pb.ConfirmRequest(entries=[pb.ConfirmEntry(path=path, tag=record.tag)])
        self.everywhere("Confirm", lambda _: confirm, tuple(sorted(acked)))

    def discard(self, path, upload):
        """Before any Commit: forbids one and frees the space. Best effort."""
        ref = pb.UploadRef(path=path, upload_id=upload)
        self.everywhere("Fence", lambda _: pb.FenceRequest(uploads=[ref]))
        drop = pb.DropRequest(entries=[pb.DropEntry(upload=ref, never_committed=True)])
        self.everywhere("Drop", lambda _: drop)

    # ---- GET

    def look(self, path, selection=pb.SELECTION_UNSPECIFIED):
        """Which version counts: (record or None, unconfirmed, messages by position)."""
        most = INLINE if selection else 0
        source = pb.PathSource(path=path, selection=selection, max_chunk_bytes=most)
        request = pb.GetChunksRequest(by_path=source)
        answers = self.everywhere("GetChunks", lambda _: request)
        heads, messages = {}, {}
        for position, answer in answers.items():
            if isinstance(answer, RpcError):
                if answer.code == "INVALID_ARGUMENT":
                    raise answer
                continue
            if answer[0].head.node.status == pb.NODE_STATUS_SERVING:
                heads[position], messages[position] = answer[0].head, answer[1:]
        views = [view(heads.get(position)) for position in NODES]
        verdict = rules.decide(views)
        if verdict["do"] == "unavailable":
            raise Failed(f"{path}: only nodes {sorted(heads)} answered")
        if verdict["do"] == "write back":
            if self.write_back(path, heads, verdict["tag"]):
                verdict = {"do": "decided", "tag": verdict["tag"], "unconfirmed": False}
            else:
                verdict = rules.decide_without_write_back(views)
        tag, found = verdict["tag"], None
        for head in heads.values():
            if head.stat.HasField("current") and tag_of(head.stat.current) == tag:
                found = head.stat.current
        return found, verdict["unconfirmed"], heads, messages

    def write_back(self, path, heads, tag) -> bool:
        """Brings the newest version to three nodes, so that no later reader misses it."""
        holder = next(h for h in heads.values() if view(h)[0] == tag)
        have = {position for position, head in heads.items() if view(head)[0] == tag}
        entry = pb.CommitEntry(
            path=path,
            record=holder.stat.current,
            write_back=True,
            sources=[node_ref(holder.node)],
        )
        request = pb.CommitRequest(entries=[entry])
        missing = tuple(position for position in NODES if position not in have)
        for position, answer in self.everywhere("Commit", lambda _: request, missing).items():
            if not isinstance(answer, RpcError) and not answer.results[0].HasField("refusal"):
                have.add(position)
        if len(have) < 3:
            return False
        confirm = pb.ConfirmEntry(path=path, tag=holder.stat.current.tag)
        everyone = tuple(sorted(have))
        self.everywhere("Confirm", lambda _: pb.ConfirmRequest(entries=[confirm]), everyone)
        return True

    def get(self, path: str) -> bytes:
        record, _, heads, messages = self.look(path, pb.SELECTION_FIRST_HOME)
        if record is None or record.kind == pb.KIND_TOMBSTONE:
            raise NotFound(path)
        manifest, chunks = record.manifest, {}
        for position, blocks in messages.items():
            if heads[position].stat.current.upload_id == record.upload_id:
                for chunk in {m.block.chunk for m in blocks}:
                    own = [m.block for m in blocks if m.block.chunk == chunk]
                    data = join(own, manifest, chunk)
                    if data is not None:
                        chunks[chunk] = data
        for chunk in NODES:
            if manifest.chunks[chunk - 1].length == 0:
                chunks[chunk] = b""
        missing = [chunk for chunk in NODES if chunk not in chunks]
        fetched = self.pool.map(lambda c: self.fetch(path, record, heads, c), missing)
        chunks.update(zip(missing, fetched))
        content = b"".join(chunks[chunk] for chunk in NODES)
        if rules.md5(content) != manifest.md5:
            raise Corrupt(f"{path}: its MD5 differs")
        return content

    def fetch(self, path, record, heads, chunk) -> bytes:
        """One chunk, from its homes first, then from whoever may have it."""
        homes = rules.homes_of(record.manifest.x, chunk)
        order = [*homes, *(node for node in NODES if node not in homes)]
        ranges = [pb.BlockRange(chunk=chunk)]
        source = pb.UploadSource(path=path, upload_id=record.upload_id, ranges=ranges)
        request = pb.GetChunksRequest(by_upload=source)
        for position in order:
            if position not in heads:
                continue
            timeout = 10 + record.manifest.chunks[chunk - 1].length / (1 << 20)
            answer = self.everywhere("GetChunks", lambda _: request, (position,), timeout)
            if isinstance(answer[position], RpcError):
                continue
            blocks = [message.block for message in answer[position]]
            data = join(blocks, record.manifest, chunk)
            if data is not None:
                return data
            bad = pb.CheckChunksRequest(
                upload=pb.UploadRef(path=path, upload_id=record.upload_id),
                chunks=rules.mask([chunk]),
            )
            self.everywhere("CheckChunks", lambda _: bad, (position,))
        raise Corrupt(f"{path}: no good copy of chunk {chunk}")

    # ---- DELETE and LIST

    def delete(self, path: str):
        record, unconfirmed, heads, _ = self.look(path)
        if not unconfirmed and (record is None or record.kind == pb.KIND_TOMBSTONE):
            raise NotFound(path)
        if len(heads) < 3:
            raise Failed(f"{path}: only nodes {sorted(heads)} answered")
        answers = [(current_hlc(head.stat), head.stat.proposed_hlc) for head in heads.values()]
        tag = pb.Tag(hlc=rules.choose_hlc(answers), writer=os.urandom(16))
        tombstone = pb.Record(tag=tag, kind=pb.KIND_TOMBSTONE, upload_id=os.urandom(16))
        self.commit(path, tombstone, [])

    def list(self, prefix: str = "", page_size: int = 0) -> dict[str, pb.ListEntry]:
        """The files under a prefix: four listings, merged by largest tag."""

        def pages(node):
            entries, token = [], ""
            while True:
                request = pb.ListRequest(prefix=prefix, page_size=page_size, page_token=token)
                page = node.call("List", request)
                if page.node.status != pb.NODE_STATUS_SERVING:
                    return None
                entries += page.entries
                token = page.next_page_token
                if not token:
                    return entries

        def guarded(node):
            try:
                return pages(node)
            except RpcError as error:
                if error.code == "INVALID_ARGUMENT":
                    raise
                return None

        listings = [found for found in self.pool.map(guarded, self.nodes.values()) if found is not None]
        if len(listings) < 2:
            raise Failed(f"only {len(listings)} nodes listed {prefix!r}")
        newest: dict[str, pb.ListEntry] = {}
        for entry in (entry for listing in listings for entry in listing):
            other = newest.get(entry.path)
            if other is None or tag_of(other) < tag_of(entry):
                newest[entry.path] = entry
        paths = sorted(newest, key=lambda path: path.encode())
        return {path: newest[path] for path in paths if newest[path].kind == pb.KIND_FILE}


def describe(content: bytes, modified: str | None = None) -> pb.Manifest:
    md5, size = rules.md5(content), len(content)
    chunks = []
    for chunk in NODES:
        start, end = rules.chunk_range(size, chunk)
        chunks.append(pb.ChunkInfo(length=end - start, crc32c=rules.crc32c(content[start:end])))
    modified = modified or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return pb.Manifest(
        size=size,
        md5=md5,
        x=rules.x_of(md5),
        layout=pb.LAYOUT_PAIRS,
        chunks=chunks,
        modified=modified,
    )


def chunk_stream(path, upload, manifest, content, chunks):
    for chunk in chunks:
        yield pb.PutChunkRequest(
            header=pb.ChunkHeader(path=path, upload_id=upload, chunk=chunk, manifest=manifest)
        )
        start, end = rules.chunk_range(manifest.size, chunk)
        for index, (first, last) in enumerate(rules.block_ranges(end - start)):
            data = content[start + first : start + last]
            crc = rules.crc32c(data)
            yield pb.PutChunkRequest(
                block=pb.Block(chunk=chunk, index=index, crc32c=crc, data=data)
            )


def join(blocks, manifest, chunk) -> bytes | None:
    """The chunk, or None where something of it is missing or wrong."""
    whole = all(
        block.chunk == chunk and block.index == place and rules.crc32c(block.data) == block.crc32c
        for place, block in enumerate(blocks)
    )
    data, info = b"".join(block.data for block in blocks), manifest.chunks[chunk - 1]
    right = whole and len(data) == info.length and rules.crc32c(data) == info.crc32c
    return data if right else None


def tag_of(record) -> tuple[int, bytes]:
    return rules.tag_key(record.tag.hlc, record.tag.writer)


def current_hlc(stat) -> int | None:
    return stat.current.tag.hlc if stat.HasField("current") else None


def view(head):
    if head is None:
        return "failed"
    if not head.stat.HasField("current"):
        return None, True
    return tag_of(head.stat.current), head.stat.confirmed


def node_ref(identity) -> pb.NodeRef:
    return pb.NodeRef(position=identity.position, incarnation=identity.incarnation)
