// The Node.js client of the interoperability tests.
//
//   main.js put-all DIR PREFIX    stores each file of DIR as PREFIX/NAME
//   main.js get-all PREFIX DIR    lists PREFIX/ and fetches each file into DIR
//   main.js scenario PREFIX       the rest of the API, with the errors that a client meets
//
// The cluster comes from DFS_NODES, DFS_CLUSTER, DFS_USER and DFS_PASSWORD.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { Client, NotFound, chunkStream, codeOf, describe, reasonOf, tagOf } from './client.js';
import * as rules from './rules.js';

function connect(password = process.env.DFS_PASSWORD) {
  const { DFS_NODES: nodes, DFS_CLUSTER: cluster, DFS_USER: user } = process.env;
  return Client.connect(nodes.split(','), { cluster, user, password });
}

async function putAll(client, folder, prefix) {
  for (const name of readdirSync(folder)) {
    await client.put(`${prefix}/${name}`, readFileSync(`${folder}/${name}`));
  }
}

async function getAll(client, prefix, folder) {
  mkdirSync(folder, { recursive: true });
  for (const [path, entry] of await client.list(`${prefix}/`)) {
    const content = await client.get(path);
    assert.equal(content.length, Number(entry.size), path);
    writeFileSync(`${folder}/${path.slice(prefix.length + 1)}`, content);
  }
}

// Makes a call that has to fail like this.
async function refused(code, reason, call) {
  await assert.rejects(call, (error) => {
    assert.deepEqual([codeOf(error), reasonOf(error)], [code, reason], String(error));
    return error.details !== '';
  });
}

async function scenario(client, prefix) {
  assert.deepEqual(Object.keys(client.members), ['1', '2', '3', '4'], 'all four nodes are up');
  await refused('UNAUTHENTICATED', 'INVALID_CREDENTIALS', () => connect('wrong'));
  const { transport } = client.members[1];
  await refused('UNAUTHENTICATED', 'TOKEN_MISSING', () => transport.call('List', {}));
  await refused('UNAUTHENTICATED', 'TOKEN_EXPIRED', () => transport.call('List', {}, 'made-up'));
  await errorsOfRequests(client, `${prefix}/refused`);
  await errorsOfUploads(client, `${prefix}/uploads`);
  await lifeOfAFile(client, `${prefix}/file`);
}

async function errorsOfRequests(client, path) {
  const call = (...rest) => client.members[2].call(...rest);
  for (const bad of ['/a', 'a//b', '../a', 'a\\b', 'a\nb', 'x'.repeat(256), '']) {
    assert(!rules.pathIsValid(bad));
    const stat = { queries: [{ path: bad }] };
    await refused('INVALID_ARGUMENT', 'INVALID_FILE_NAME', () => call('Stat', stat));
  }
  await refused('INVALID_ARGUMENT', 'INVALID_ARGUMENT', () => call('Stat', {}));
  await refused('INVALID_ARGUMENT', 'INVALID_ARGUMENT', () => call('List', { pageSize: -1 }));
  const unknown = { byUpload: { path, uploadId: randomBytes(16), ranges: [{ chunk: 1 }] } };
  await refused('NOT_FOUND', 'CHUNK_NOT_FOUND', () => call('GetChunks', unknown));
  await assert.rejects(client.get(path), NotFound);
  await assert.rejects(client.remove(path), NotFound);
}

async function errorsOfUploads(client, path) {
  const call = (...rest) => client.members[3].call(...rest);
  const content = Buffer.from('some content of a file');
  const uploadId = randomBytes(16);
  const manifest = describe(content);
  const stream = () => structuredClone([...chunkStream(path, uploadId, manifest, content, [1])]);
  const put = async (code, reason, spoil) => {
    const messages = stream();
    spoil(messages);
    await refused(code, reason, () => call('PutChunk', messages));
  };
  await put('INVALID_ARGUMENT', 'CHECKSUM_MISMATCH', (m) => { m[1].block.crc32c = 1; });
  await put('INVALID_ARGUMENT', 'INVALID_ARGUMENT', (m) => { m.shift(); });
  await put('INVALID_ARGUMENT', 'INVALID_ARGUMENT', (m) => { m.pop(); });
  await put('INVALID_ARGUMENT', 'INVALID_ARGUMENT', (m) => { m[0].header.manifest.x ^= 1; });
  await put('FAILED_PRECONDITION', 'NOT_STAGED', (m) => { m[0].header.firstBlock = 1; });
  const large = Buffer.alloc(5 << 20);
  const oversized = () => [...chunkStream(path, uploadId, describe(large), large, [1])].slice(0, 2);
  const longer = oversized();
  longer[1].block.data = large.subarray(0, 5 << 18);
  await refused('INVALID_ARGUMENT', 'CHECKSUM_MISMATCH', () => call('PutChunk', longer));
  // That one gRPC refuses itself, before the node sees it.
  const tooLong = oversized();
  tooLong[1].block.data = large;
  await refused('OUT_OF_RANGE', 'MESSAGE_TOO_LARGE', () => call('PutChunk', tooLong));
  const tag = { hlc: (1n << 40n).toString(), writer: randomBytes(16) };
  const record = { tag, kind: 'KIND_FILE', uploadId, manifest };
  const commit = async () => (await call('Commit', { entries: [{ path, record }] })).results[0];
  assert.equal((await commit()).refusal.reason, 'NOT_PREPARED');
  tag.hlc = (1n << 63n).toString();
  assert.equal((await commit()).refusal.reason, 'FUTURE_TAG');
  const upload = { path, uploadId };
  await call('PutChunk', stream());
  const query = await call('QueryUpload', { upload });
  assert.deepEqual([query.have, query.durableBytes], [1, ['5', '0', '0', '0']]);
  const [fenced] = (await call('Fence', { uploads: [upload] })).results;
  assert.deepEqual([fenced.committed, fenced.refusal], [null, null]);
  const drop = { entries: [{ upload, neverCommitted: true }] };
  assert.equal((await call('Drop', drop)).results[0].refusal, null);
}

async function lifeOfAFile(client, path) {
  for (const content of [Buffer.from('the first version'), randomBytes(5_000_001)]) {
    const record = await client.put(path, content);
    assert((await client.get(path)).equals(content));
    for (const [position, member] of Object.entries(client.members)) {
      const [stat] = (await member.call('Stat', { queries: [{ path }] })).stats;
      assert.equal(tagOf(stat.current), tagOf(record));
      assert(stat.confirmed);
      const chunks = rules.chunksOf(record.manifest.x, Number(position));
      assert.equal(stat.current.have, rules.mask(chunks));
    }
  }
  await client.remove(path);
  await assert.rejects(client.get(path), NotFound);
  const [entry] = (await client.members[4].call('List', { prefix: path })).entries;
  assert.equal(entry.kind, 'KIND_TOMBSTONE');
  for (const size of [0, 1]) assert(!(await client.list(path, size)).has(path));
}

const commands = { 'put-all': putAll, 'get-all': getAll, scenario };
const [command, ...rest] = process.argv.slice(2);
await commands[command](await connect(), ...rest);
process.exit(0);
