// The rules that a client shares with the nodes, written from docs/protocol.md alone.
// Nothing here talks to a node. tests/vectors says what each function has to give.

import { createHash } from 'node:crypto';

export const NODES = [1, 2, 3, 4];
export const BLOCK = 1 << 20;

export const md5 = (content) => createHash('md5').update(content).digest();

// The digest as a big-endian number, mod 4.
export const xOf = (digest) => digest[15] & 3;

// The two chunks that a node keeps; first the one it sends in a read from all four.
export function chunksOf(x, node) {
  const first = (node - 1 - x + 4) % 4;
  return [first + 1, ((first + 1) % 4) + 1];
}

// The two nodes that keep a chunk, in the order in which to ask them.
export const homesOf = (x, chunk) =>
  [0, 1].map((place) => NODES.find((node) => chunksOf(x, node)[place] === chunk));

export const opposite = (node) => ((node + 1) % 4) + 1;

export const mask = (chunks) => chunks.reduce((sum, chunk) => sum | (1 << (chunk - 1)), 0);

// Sizes may need more than 53 bits on the way: BigInt in and out.
export function chunkRange(size, chunk) {
  const border = (i) => (BigInt(i) * BigInt(size)) / 4n;
  return [border(chunk - 1), border(chunk)];
}

export function blockRanges(length) {
  const ranges = [];
  for (let start = 0; start < length; start += BLOCK) {
    ranges.push([start, Math.min(start + BLOCK, length)]);
  }
  return ranges;
}

const TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

// The CRC32C of data, or of what had the checksum `before` followed by data.
export function crc32c(data, before = 0) {
  let crc = ~before >>> 0;
  for (let i = 0; i < data.length; i += 1) crc = TABLE[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

export function pathIsValid(path) {
  const length = Buffer.byteLength(path);
  if (length < 1 || length > 1024 || /[\u0000-\u001f\u007f-\u009f\\]/.test(path)) return false;
  const good = (s) => s !== '' && s !== '.' && s !== '..' && Buffer.byteLength(s) <= 255;
  return path.split('/').every(good);
}

const larger = (a, b) => (a > b ? a : b);

// From [current or null, proposed] of each node, BigInts; null where no tag can be chosen.
export function chooseHlc(answers) {
  if (answers.length < 2) return null;
  const clocks = answers.map(([, proposed]) => proposed).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const known = answers.map(([current]) => current).filter((current) => current !== null);
  const hlc = known.map((current) => current + 1n).reduce(larger, clocks[clocks.length - 2]);
  return hlc < 1n << 64n ? hlc : null;
}

// Tags as text of one length, so that they compare as the tags do.
export const tagKey = (hlc, writer) =>
  BigInt(hlc).toString(16).padStart(16, '0') + Buffer.from(writer).toString('hex');

const isAnswer = (node) => typeof node === 'object';

// What a read makes of the answers so far: each 'waiting', 'failed' or {tag, confirmed}. A tag
// is anything that compares, null where the node has no version of the path.
export function decide(nodes) {
  const answers = nodes.filter(isAnswer);
  const waiting = nodes.includes('waiting');
  if (answers.length < 2) return { do: waiting ? 'wait' : 'unavailable' };
  const known = answers.filter(({ tag }) => tag !== null);
  if (known.length === 0) return { do: 'decided', tag: null, unconfirmed: false };
  const newest = known.map(({ tag }) => tag).reduce(larger);
  const have = known.filter(({ tag }) => tag === newest);
  if (have.length >= 3 || have.some(({ confirmed }) => confirmed)) {
    return { do: 'decided', tag: newest, unconfirmed: false };
  }
  if (answers.length >= 3) return { do: 'write back', tag: newest };
  return waiting ? { do: 'wait' } : { do: 'decided', tag: newest, unconfirmed: true };
}

// What counts where the write-back that `decide` asks for cannot be done.
export function decideWithoutWriteBack(nodes) {
  const verdict = decide(nodes);
  if (verdict.do !== 'write back') return verdict;
  const answers = nodes.filter(isAnswer);
  if (answers.length < 4) return { do: 'decided', tag: verdict.tag, unconfirmed: true };
  const known = answers.map(({ tag }) => tag).filter((tag) => tag !== null);
  known.sort((a, b) => (a < b ? 1 : a > b ? -1 : 0));
  return { do: 'decided', tag: known[2] ?? null, unconfirmed: false };
}
