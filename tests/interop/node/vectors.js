// Checks the rules of the Node.js client against the golden vectors: vectors.js DIR

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chunkStream, describe } from './client.js';
import * as rules from './rules.js';

const { NODES } = rules;
const [folder] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(`${folder}/${name}.json`, 'utf8'));

const pattern = ({ size, seed }) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, i) => i * 31 + Math.floor(i / 256) * 7 + seed));

const checks = {
  placement({ tables, texts, patterns }) {
    for (const each of [...texts, ...patterns]) {
      const md5 = rules.md5(each.text === undefined ? pattern(each) : Buffer.from(each.text));
      assert.deepEqual([md5.toString('hex'), rules.xOf(md5)], [each.md5, each.x]);
    }
    for (const { x, chunks_of_nodes_1_to_4: chunks, homes_of_chunks_1_to_4: homes } of tables) {
      assert.deepEqual(NODES.map((node) => rules.chunksOf(x, node).sort()), chunks);
      assert.deepEqual(NODES.map((chunk) => rules.homesOf(x, chunk)), homes);
    }
  },

  split({ files }) {
    for (const { size, chunks } of files) {
      for (const [place, chunk] of chunks.entries()) {
        const [start, end] = rules.chunkRange(size, place + 1);
        assert.deepEqual([String(start), String(end)], [chunk.start, chunk.end]);
        if (BigInt(size) > 1n << 40n) continue;
        const blocks = rules.blockRanges(Number(end - start));
        const [first, last] = blocks.at(-1) ?? [0, 0];
        assert.deepEqual(
          [String(blocks.length), last - first],
          [chunk.blocks, chunk.last_block_bytes],
        );
      }
    }
  },

  crc32c({ texts, combined, files }) {
    for (const { text, crc32c } of texts) assert.equal(rules.crc32c(Buffer.from(text)), crc32c);
    for (const { first, second, crc32c } of combined) {
      assert.equal(rules.crc32c(pattern(first)), first.crc32c);
      assert.equal(rules.crc32c(pattern(second)), second.crc32c);
      assert.equal(rules.crc32c(pattern(second), first.crc32c), crc32c);
    }
    for (const file of files) {
      const content = pattern(file);
      assert.equal(rules.crc32c(content), file.crc32c);
      const manifest = describe(content);
      for (const [place, { crc32c, blocks }] of file.chunks.entries()) {
        assert.equal(manifest.chunks[place].crc32c, crc32c);
        const stream = [...chunkStream('a', null, manifest, content, [place + 1])].slice(1);
        assert.deepEqual(stream.map(({ block }) => block.crc32c), blocks);
      }
    }
  },

  paths({ valid, refused }) {
    for (const { path } of valid) assert(rules.pathIsValid(path), path);
    for (const { path } of refused) assert(!rules.pathIsValid(path), path);
  },

  tags({ choices, order }) {
    const number = (text) => (text === null ? null : BigInt(text));
    for (const { answers, hlc } of choices) {
      const all = answers.map((a) => [number(a.current_hlc), number(a.proposed_hlc)]);
      assert.equal(rules.chooseHlc(all), number(hlc));
    }
    const key = ({ hlc, writer }) => rules.tagKey(hlc, Buffer.from(writer, 'base64'));
    for (const { smaller, larger } of order) assert(key(smaller) < key(larger));
  },

  reads({ cases }) {
    for (const { nodes, verdict, if_it_cannot_be_written_back: otherwise } of cases) {
      assert.deepEqual(rules.decide(nodes), verdict);
      assert.deepEqual(rules.decideWithoutWriteBack(nodes), otherwise);
    }
  },

  manifest({ made }) {
    for (const { size, seed, manifest } of made) {
      const found = describe(pattern({ size, seed }), manifest.modified);
      const shown = {
        ...found,
        size: String(size),
        md5: found.md5.toString('base64'),
        chunks: found.chunks.map((chunk) => ({ ...chunk, length: String(chunk.length) })),
        metadata: {},
      };
      assert.deepEqual(shown, manifest);
    }
  },
};

for (const [name, check] of Object.entries(checks)) check(read(name));
console.log('node: the vectors hold');
