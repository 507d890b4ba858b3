import java.math.BigInteger;
import java.security.MessageDigest;
import java.util.List;
import java.util.stream.IntStream;

/** The rules that a client shares with the nodes, written from docs/protocol.md alone. */
final class Rules {
  static final int BLOCK = 1 << 20;
  static final List<Integer> NODES = List.of(1, 2, 3, 4);

  static byte[] md5(byte[] content) throws Exception {
    return MessageDigest.getInstance("MD5").digest(content);
  }

  /** The digest as a big-endian number, mod 4. */
  static int xOf(byte[] md5) {
    return new BigInteger(1, md5).mod(BigInteger.valueOf(4)).intValue();
  }

  /** The two chunks that a node keeps; first the one it sends in a read from all four. */
  static List<Integer> chunksOf(int x, int node) {
    int first = Math.floorMod(node - 1 - x, 4);
    return List.of(first + 1, (first + 1) % 4 + 1);
  }

  /** The two nodes that keep a chunk, in the order in which to ask them. */
  static List<Integer> homesOf(int x, int chunk) {
    return IntStream.range(0, 2).boxed().flatMap(place ->
        NODES.stream().filter(node -> chunksOf(x, node).get(place) == chunk)).toList();
  }

  static int opposite(int node) {
    return (node + 1) % 4 + 1;
  }

  static int mask(List<Integer> chunks) {
    return chunks.stream().mapToInt(chunk -> 1 << (chunk - 1)).sum();
  }

  /** Where a chunk starts; chunk 5 starts at the end. Sizes here are those of arrays. */
  static int start(int size, int chunk) {
    return (int) ((long) size * (chunk - 1) / 4);
  }

  static int crc32c(byte[] data, int from, int to) {
    var crc = new java.util.zip.CRC32C();
    crc.update(data, from, to - from);
    return (int) crc.getValue();
  }

  private Rules() {}
}
