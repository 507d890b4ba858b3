// A client of dfs for Node.js, written from docs/protocol.md and proto/dfs.proto.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as rules from './rules.js';

const { NODES } = rules;

// Where the runner has installed them.
const require = createRequire(`${process.env.NODE_MODULES ?? process.cwd()}/`);
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const OPTIONS = { longs: String, enums: String, defaults: true, oneofs: true, bytes: Buffer };
const definition = loader.loadSync(process.env.DFS_PROTO, OPTIONS);
const { dfs } = grpc.loadPackageDefinition(definition);

const Status = protobuf.parse(`syntax = "proto3"; package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }`).root;

export class Failed extends Error {}
export class Unknown extends Error {}
export class NotFound extends Error {}
export class Corrupt extends Error {}

// The reason of the ErrorInfo that an error carries.
export function reasonOf(error) {
  const [details] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!details) return null;
  const status = Status.lookupType('google.rpc.Status').decode(details);
  const any = status.details.find((each) => each.typeUrl.endsWith('google.rpc.ErrorInfo'));
  if (!any) return null;
  const info = Status.lookupType('google.rpc.ErrorInfo').decode(any.value);
  if (info.domain !== 'dfs.v1') throw new Error(`a domain of ${info.domain}`);
  return info.reason;
}

export const codeOf = (error) => grpc.status[error.code];

// DFS_TLS_CA names the authority that signed the nodes' certificates.
const credentials = () => {
  const ca = process.env.DFS_TLS_CA;
  return ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
};

// One connection. `request` is a message, or a list of messages for a stream of them.
export class Transport {
  constructor(address) {
    const limits = { 'grpc.max_receive_message_length': 4 << 20 };
    this.stub = new dfs.v1.DfsService(address, credentials(), limits);
  }

  call(method, request, token = null, seconds = 5) {
    const { requestStream, responseStream } = dfs.v1.DfsService.service[method];
    const metadata = new grpc.Metadata();
    if (token) metadata.set('authorization', `Bearer ${token}`);
    const options = { deadline: Date.now() + seconds * 1000 };
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer));
      if (requestStream) {
        const stream = this.stub[method](metadata, options, done);
        stream.on('error', () => {});
        this.write(stream, request).catch(reject);
      } else if (responseStream) {
        const answers = [];
        const stream = this.stub[method](request, metadata, options);
        stream.on('data', (answer) => answers.push(answer));
        stream.on('error', reject);
        stream.on('end', () => resolve(answers));
      } else {
        this.stub[method](request, metadata, options, done);
      }
    });
  }

  async write(stream, messages) {
    for (const message of messages) {
      if (!stream.write(message)) {
        await new Promise((go) => {
          for (const event of ['drain', 'error', 'close', 'end']) stream.once(event, go);
          stream.call?.once?.('close', go);
          setTimeout(go, 5000).unref();
        });
      }
    }
    stream.end();
  }
}

class Member {
  static async logIn(position, transport, { cluster, user, password }) {
    const member = new Member();
    Object.assign(member, { position, transport, credentials: { user, password } });
    const answer = await transport.call('Authenticate', member.credentials, null, 10);
    if (answer.node.cluster !== cluster || answer.node.position !== position) {
      throw new Failed(`node ${position} is node ${answer.node.position} of another cluster`);
    }
    return Object.assign(member, { token: answer.token });
  }

  async call(method, request, seconds = 5) {
    try {
      return await this.transport.call(method, request, this.token, seconds);
    } catch (error) {
      if (reasonOf(error) !== 'TOKEN_EXPIRED') throw error;
    }
    // The node was restarted: it keeps tokens in memory only.
    const answer = await this.transport.call('Authenticate', this.credentials, null, 10);
    this.token = answer.token;
    return this.transport.call(method, request, this.token, seconds);
  }
}

const refusalOf = (answer) => answer.error ?? answer.results[0].refusal;

// Four nodes; one that cannot be reached is left out.
export class Client {
  static async connect(addresses, credentials) {
    const client = new Client();
    client.members = {};
    await Promise.all(NODES.map(async (position) => {
      try {
        const transport = new Transport(addresses[position - 1]);
        client.members[position] = await Member.logIn(position, transport, credentials);
      } catch (error) {
        if (!(error.code >= 0) || reasonOf(error) === 'INVALID_CREDENTIALS') throw error;
      }
    }));
    return client;
  }

  // Calls nodes at the same time; answers by position, errors as { error }.
  async everywhere(method, requestFor, nodes = NODES, seconds = 5) {
    const one = async (position) => {
      const member = this.members[position];
      if (!member) return [position, { error: new Error('was never reached') }];
      try {
        return [position, await member.call(method, requestFor(position), seconds)];
      } catch (error) {
        return [position, { error }];
      }
    };
    return new Map(await Promise.all(nodes.map(one)));
  }

  // ---- PUT

  async put(path, content) {
    const manifest = describe(content);
    const upload = randomBytes(16);
    const home = (node) => rules.chunksOf(manifest.x, node);
    const prepared = await this.prepare(path, upload, manifest, content, NODES, home);
    const failed = NODES.filter((node) => !prepared.has(node));
    if (failed.length === 1) {
      // The opposite node takes them in; only with it the file is on two whole copies.
      const other = rules.opposite(failed[0]);
      const spilled = () => home(failed[0]);
      const again = await this.prepare(path, upload, manifest, content, [other], spilled);
      if (again.has(other)) prepared.set(other, again.get(other));
      else failed.push(other);
    }
    const answers = [...prepared.values()].map(({ stats: [stat] }) => currentAndProposed(stat));
    const hlc = failed.length > 1 ? null : rules.chooseHlc(answers);
    if (hlc === null) {
      await this.discard(path, upload);
      throw new Failed(`${path}: nodes ${failed} took no data`);
    }
    const tag = { hlc: hlc.toString(), writer: randomBytes(16) };
    const record = { tag, kind: 'KIND_FILE', uploadId: upload, manifest };
    await this.commit(path, record, [...prepared.values()].map(({ node }) => nodeRef(node)));
    return record;
  }

  // Sends chunks to nodes; the answers of those that hold them durably.
  async prepare(path, upload, manifest, content, nodes, chunksFor) {
    const stream = (position) =>
      [...chunkStream(path, upload, manifest, content, chunksFor(position))];
    const seconds = 30 + content.length / (1 << 20);
    const answers = await this.everywhere('PutChunk', stream, nodes, seconds);
    for (const [position, answer] of answers) {
      const good = !answer.error && answer.node.status === 'NODE_STATUS_SERVING'
        && answer.results.every((result) => result.refusal === null);
      if (!good) answers.delete(position);
    }
    return answers;
  }

  // The commit round: the same Commit to all four, done at three acknowledgements.
  async commit(path, record, sources) {
    const request = { entries: [{ path, record, sources }] };
    const started = process.hrtime.bigint();
    const [acked, refused, maybe] = [new Set(), new Map(), new Set()];
    for (let round = 0; round < 3 && acked.size < 3; round += 1) {
      const todo = NODES.filter((node) => !acked.has(node) && !refused.has(node));
      for (const [position, answer] of await this.everywhere('Commit', () => request, todo)) {
        if (answer.error) maybe.add(position);
        else if (answer.results[0].refusal) refused.set(position, answer.results[0].refusal.reason);
        else acked.add(position);
      }
    }
    const late = process.hrtime.bigint() - started > 60_000_000_000n;
    if (acked.size < 3 || late) {
      if (refused.size === 4 && maybe.size === 0) throw new Failed(`${path}: all refused`);
      throw new Unknown(`${path}: committed on ${[...acked]}`);
    }
    const confirm = { entries: [{ path, tag: record.tag }] };
    await this.everywhere('Confirm', () => confirm, [...acked]);
  }

  // Before any Commit: forbids one and frees the space. Best effort.
  async discard(path, uploadId) {
    const upload = { path, uploadId };
    await this.everywhere('Fence', () => ({ uploads: [upload] }));
    await this.everywhere('Drop', () => ({ entries: [{ upload, neverCommitted: true }] }));
  }

  // ---- GET

  // Which version counts, and what came with the answers.
  async look(path, selection = 'SELECTION_UNSPECIFIED') {
    const maxChunkBytes = selection === 'SELECTION_UNSPECIFIED' ? 0 : 256 << 10;
    const request = { byPath: { path, selection, maxChunkBytes } };
    const heads = new Map();
    const blocks = [];
    for (const [position, answer] of await this.everywhere('GetChunks', () => request)) {
      if (answer.error && codeOf(answer.error) === 'INVALID_ARGUMENT') throw answer.error;
      if (answer.error || answer[0].head.node.status !== 'NODE_STATUS_SERVING') continue;
      heads.set(position, answer[0].head);
      const upload = answer[0].head.stat.current?.uploadId;
      blocks.push(...answer.slice(1).map(({ block }) => ({ upload, block })));
    }
    const views = NODES.map((position) => view(heads.get(position)));
    let verdict = rules.decide(views);
    if (verdict.do === 'unavailable') throw new Failed(`${path}: ${heads.size} nodes answered`);
    if (verdict.do === 'write back') {
      verdict = (await this.writeBack(path, heads, verdict.tag))
        ? { tag: verdict.tag, unconfirmed: false }
        : rules.decideWithoutWriteBack(views);
    }
    const holder = [...heads.values()].find((head) => view(head).tag === verdict.tag);
    const record = verdict.tag === null ? null : holder.stat.current;
    return { record, unconfirmed: verdict.unconfirmed, heads, blocks };
  }

  // Brings the newest version to three nodes, so that no later reader misses it.
  async writeBack(path, heads, tag) {
    const having = [...heads].filter(([, head]) => view(head).tag === tag);
    const have = new Set(having.map(([position]) => position));
    const [[, holder]] = having;
    const record = holder.stat.current;
    const entry = { path, record, writeBack: true, sources: [nodeRef(holder.node)] };
    const missing = NODES.filter((node) => !have.has(node));
    const answers = await this.everywhere('Commit', () => ({ entries: [entry] }), missing);
    for (const [position, answer] of answers) if (!refusalOf(answer)) have.add(position);
    if (have.size < 3) return false;
    const confirm = { entries: [{ path, tag: record.tag }] };
    await this.everywhere('Confirm', () => confirm, [...have]);
    return true;
  }

  async get(path) {
    const { record, heads, blocks } = await this.look(path, 'SELECTION_FIRST_HOME');
    if (record === null || record.kind === 'KIND_TOMBSTONE') throw new NotFound(path);
    const { manifest } = record;
    const own = blocks.filter(({ upload }) => upload?.equals(record.uploadId));
    const chunks = await Promise.all(NODES.map(async (chunk) => {
      const inline = own.map(({ block }) => block).filter((block) => block.chunk === chunk);
      return join(inline, manifest, chunk) ?? this.fetch(path, record, heads, chunk);
    }));
    const content = Buffer.concat(chunks);
    if (!rules.md5(content).equals(manifest.md5)) throw new Corrupt(`${path}: its MD5 differs`);
    return content;
  }

  // One chunk, from its homes first, then from whoever may have it.
  async fetch(path, record, heads, chunk) {
    const homes = rules.homesOf(record.manifest.x, chunk);
    const order = [...homes, ...NODES.filter((node) => !homes.includes(node))];
    const { uploadId } = record;
    const request = { byUpload: { path, uploadId, ranges: [{ chunk }] } };
    const seconds = 10 + record.manifest.chunks[chunk - 1].length / (1 << 20);
    for (const position of order.filter((node) => heads.has(node))) {
      const answers = await this.everywhere('GetChunks', () => request, [position], seconds);
      const answer = answers.get(position);
      if (answer.error) continue;
      const data = join(answer.map(({ block }) => block), record.manifest, chunk);
      if (data) return data;
      const bad = { upload: { path, uploadId }, chunks: rules.mask([chunk]) };
      await this.everywhere('CheckChunks', () => bad, [position]);
    }
    throw new Corrupt(`${path}: no good copy of chunk ${chunk}`);
  }

  // ---- DELETE and LIST

  async remove(path) {
    const { record, unconfirmed, heads } = await this.look(path);
    const file = record !== null && record.kind === 'KIND_FILE';
    if (!file && !unconfirmed) throw new NotFound(path);
    if (heads.size < 3) throw new Failed(`${path}: ${heads.size} nodes answered`);
    const answers = [...heads.values()].map(({ stat }) => currentAndProposed(stat));
    const tag = { hlc: rules.chooseHlc(answers).toString(), writer: randomBytes(16) };
    await this.commit(path, { tag, kind: 'KIND_TOMBSTONE', uploadId: randomBytes(16) }, []);
  }

  // The files under a prefix: four listings, merged by largest tag; a Map in byte order.
  async list(prefix, pageSize = 0) {
    const pages = async (member) => {
      const entries = [];
      let pageToken = '';
      do {
        const page = await member.call('List', { prefix, pageSize, pageToken });
        if (page.node.status !== 'NODE_STATUS_SERVING') throw new Failed('is rejoining');
        entries.push(...page.entries);
        pageToken = page.nextPageToken;
      } while (pageToken !== '');
      return entries;
    };
    const settled = await Promise.allSettled(Object.values(this.members).map(pages));
    const listings = settled.filter(({ status }) => status === 'fulfilled');
    if (listings.length < 2) throw new Failed(`${listings.length} nodes listed ${prefix}`);
    const newest = new Map();
    for (const entry of listings.flatMap(({ value }) => value)) {
      const other = newest.get(entry.path);
      if (!other || tagOf(other) < tagOf(entry)) newest.set(entry.path, entry);
    }
    const inOrder = [...newest].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return new Map(inOrder.filter(([, { kind }]) => kind === 'KIND_FILE'));
  }
}

export function describe(content, modified = new Date().toISOString()) {
  const md5 = rules.md5(content);
  const chunks = NODES.map((chunk) => {
    const [start, end] = rules.chunkRange(content.length, chunk).map(Number);
    return { length: end - start, crc32c: rules.crc32c(content.subarray(start, end)) };
  });
  const x = rules.xOf(md5);
  return { size: content.length, md5, x, layout: 'LAYOUT_PAIRS', chunks, modified };
}

export function* chunkStream(path, uploadId, manifest, content, chunks) {
  for (const chunk of chunks) {
    yield { header: { path, uploadId, chunk, manifest } };
    const [start, end] = rules.chunkRange(manifest.size, chunk).map(Number);
    for (const [index, [first, last]] of rules.blockRanges(end - start).entries()) {
      const data = content.subarray(start + first, start + last);
      yield { block: { chunk, index, crc32c: rules.crc32c(data), data } };
    }
  }
}

// The chunk, or null where something of it is missing or wrong.
function join(blocks, manifest, chunk) {
  const good = (block, place) => block.chunk === chunk && block.index === place
    && rules.crc32c(block.data) === block.crc32c;
  const data = Buffer.concat(blocks.map((block) => block.data));
  const { length, crc32c } = manifest.chunks[chunk - 1];
  const right = blocks.every(good) && data.length === Number(length)
    && rules.crc32c(data) === crc32c;
  return right ? data : null;
}

export const tagOf = ({ tag }) => rules.tagKey(tag.hlc, tag.writer);

const nodeRef = ({ position, incarnation }) => ({ position, incarnation });

const currentAndProposed = (stat) =>
  [stat.current ? BigInt(stat.current.tag.hlc) : null, BigInt(stat.proposedHlc)];

function view(head) {
  if (!head) return 'failed';
  const { current, confirmed } = head.stat;
  return current ? { tag: tagOf(current), confirmed } : { tag: null, confirmed: true };
}
