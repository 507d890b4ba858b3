import com.google.protobuf.ByteString;
import dfs.rpc.ErrorInfo;
import dfs.v1.DfsServiceGrpc;
import dfs.v1.Dfs.*;
import dfs.v1.Dfs.Record;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.time.Instant;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;

/**
 * The Java client of the interoperability tests, over Netty.
 *
 * <pre>
 * Main put-all DIR PREFIX    stores each file of DIR as PREFIX/NAME
 * Main get-all PREFIX DIR    lists PREFIX/ and fetches each file into DIR
 * Main scenario PREFIX       errors, placement, replacing and removing
 * </pre>
 *
 * The cluster comes from DFS_NODES, DFS_CLUSTER, DFS_USER and DFS_PASSWORD.
 */
public final class Main {
  static final SecureRandom RANDOM = new SecureRandom();
  static final ExecutorService POOL = Executors.newFixedThreadPool(8, task -> {
    var thread = new Thread(task);
    thread.setDaemon(true);
    return thread;
  });

  final Map<Integer, DfsServiceGrpc.DfsServiceBlockingStub> nodes = new TreeMap<>();
  final Map<Integer, DfsServiceGrpc.DfsServiceStub> streams = new TreeMap<>();

  static final class NotFound extends Exception {}

  static final class Failed extends Exception {
    Failed(String why) {
      super(why);
    }
  }

  // ---- Logging in

  Main(String password) throws Exception {
    String[] addresses = System.getenv("DFS_NODES").split(",");
    for (int position : Rules.NODES) {
      String[] address = addresses[position - 1].split(":");
      var channel = NettyChannelBuilder.forAddress(address[0], Integer.parseInt(address[1]))
          .usePlaintext().maxInboundMessageSize(4 << 20).build();
      var bare = DfsServiceGrpc.newBlockingStub(channel);
      AuthenticateResponse answer;
      try {
        answer = bare.withDeadlineAfter(10, TimeUnit.SECONDS).authenticate(
            AuthenticateRequest.newBuilder()
                .setUser(System.getenv("DFS_USER")).setPassword(password).build());
      } catch (StatusRuntimeException error) {
        if ("INVALID_CREDENTIALS".equals(reasonOf(error))) throw error;
        continue; // It is left out.
      }
      check(answer.getNode().getPosition() == position
          && answer.getNode().getCluster().equals(System.getenv("DFS_CLUSTER")), "the wrong node");
      var token = MetadataUtils.newAttachHeadersInterceptor(bearer(answer.getToken()));
      nodes.put(position, bare.withInterceptors(token));
      streams.put(position, DfsServiceGrpc.newStub(channel).withInterceptors(token));
    }
  }

  static Metadata bearer(String token) {
    var metadata = new Metadata();
    var key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    metadata.put(key, "Bearer " + token);
    return metadata;
  }

  DfsServiceGrpc.DfsServiceBlockingStub node(int position, long seconds) {
    return nodes.get(position).withDeadlineAfter(seconds, TimeUnit.SECONDS);
  }

  /** Calls nodes at the same time; those that answered. */
  <T> Map<Integer, T> everywhere(Collection<Integer> positions, Call<T> call) throws Exception {
    var running = new TreeMap<Integer, Future<T>>();
    for (int position : positions) {
      if (nodes.containsKey(position)) {
        running.put(position, POOL.submit(() -> call.to(position)));
      }
    }
    var answers = new TreeMap<Integer, T>();
    for (var each : running.entrySet()) {
      try {
        answers.put(each.getKey(), each.getValue().get());
      } catch (ExecutionException error) {
        if (!(error.getCause() instanceof StatusRuntimeException)) throw error;
      }
    }
    return answers;
  }

  interface Call<T> {
    T to(int position) throws Exception;
  }

  // ---- PUT

  Record put(String path, byte[] content) throws Exception {
    var manifest = describe(content);
    var upload = random();
    var failed = new TreeSet<>(Rules.NODES);
    Function<Integer, List<Integer>> home = node -> Rules.chunksOf(manifest.getX(), node);
    var prepared = everywhere(Rules.NODES, position ->
        send(position, chunkStream(path, upload, manifest, content, home.apply(position))));
    prepared.values().removeIf(answer -> !good(answer));
    failed.removeAll(prepared.keySet());
    if (failed.size() == 1) {
      // The opposite node takes them in; only with it the file is on two whole copies.
      int lost = failed.first();
      int other = Rules.opposite(lost);
      var again = everywhere(List.of(other), position ->
          send(position, chunkStream(path, upload, manifest, content, home.apply(lost))));
      if (again.containsKey(other) && good(again.get(other))) prepared.putAll(again);
      else failed.add(other);
    }
    if (failed.size() > 1) throw new Failed(path + ": nodes " + failed + " took no data");
    var stats = prepared.values().stream().map(answer -> answer.getStats(0)).toList();
    var record = Record.newBuilder()
        .setTag(Tag.newBuilder().setHlc(chooseHlc(stats)).setWriter(random()))
        .setKind(Kind.KIND_FILE).setUploadId(upload).setManifest(manifest).build();
    commit(path, record, prepared.values().stream().map(answer -> nodeRef(answer.getNode())).toList());
    return record;
  }

  static boolean good(PutChunkResponse answer) {
    return answer.getNode().getStatus() == NodeStatus.NODE_STATUS_SERVING
        && answer.getResultsList().stream().noneMatch(ChunkResult::hasRefusal);
  }

  PutChunkResponse send(int position, List<PutChunkRequest> messages) throws Exception {
    var done = new CompletableFuture<PutChunkResponse>();
    var requests = streams.get(position).withDeadlineAfter(60, TimeUnit.SECONDS).putChunk(
        new StreamObserver<>() {
          public void onNext(PutChunkResponse answer) {
            done.complete(answer);
          }

          public void onError(Throwable error) {
            done.completeExceptionally(error);
          }

          public void onCompleted() {}
        });
    try {
      messages.forEach(requests::onNext);
      requests.onCompleted();
    } catch (IllegalStateException ended) {
      // The node has answered already; what it said comes below.
    }
    try {
      return done.get(65, TimeUnit.SECONDS);
    } catch (ExecutionException error) {
      throw (Exception) error.getCause();
    }
  }

  static Manifest describe(byte[] content) throws Exception {
    var md5 = Rules.md5(content);
    var manifest = Manifest.newBuilder().setSize(content.length).setMd5(ByteString.copyFrom(md5))
        .setX(Rules.xOf(md5)).setLayout(Layout.LAYOUT_PAIRS).setModified(Instant.now().toString());
    for (int chunk : Rules.NODES) {
      int from = Rules.start(content.length, chunk);
      int to = Rules.start(content.length, chunk + 1);
      manifest.addChunks(ChunkInfo.newBuilder()
          .setLength(to - from).setCrc32C(Rules.crc32c(content, from, to)));
    }
    return manifest.build();
  }

  static List<PutChunkRequest> chunkStream(
      String path, ByteString upload, Manifest manifest, byte[] content, List<Integer> chunks) {
    var messages = new ArrayList<PutChunkRequest>();
    for (int chunk : chunks) {
      messages.add(PutChunkRequest.newBuilder().setHeader(ChunkHeader.newBuilder()
          .setPath(path).setUploadId(upload).setChunk(chunk).setManifest(manifest)).build());
      int end = Rules.start(content.length, chunk + 1);
      int index = 0;
      for (int at = Rules.start(content.length, chunk); at < end; at += Rules.BLOCK) {
        int to = Math.min(at + Rules.BLOCK, end);
        messages.add(PutChunkRequest.newBuilder().setBlock(Block.newBuilder()
            .setChunk(chunk).setIndex(index++).setCrc32C(Rules.crc32c(content, at, to))
            .setData(ByteString.copyFrom(content, at, to - at))).build());
      }
    }
    return messages;
  }

  /** Above every current tag, and not below the second-largest clock. 64 bits without a sign. */
  static long chooseHlc(List<PathStat> stats) throws Failed {
    if (stats.size() < 2) throw new Failed("two answers are needed for a tag");
    var clocks = stats.stream().map(PathStat::getProposedHlc).sorted(Long::compareUnsigned).toList();
    long hlc = clocks.get(clocks.size() - 2);
    for (var stat : stats) {
      long above = stat.getCurrent().getTag().getHlc() + 1;
      if (stat.hasCurrent() && Long.compareUnsigned(above, hlc) > 0) hlc = above;
    }
    return hlc;
  }

  /** The same Commit to all four, done at three acknowledgements. */
  void commit(String path, Record record, List<NodeRef> sources) throws Exception {
    var request = CommitRequest.newBuilder().addEntries(CommitEntry.newBuilder()
        .setPath(path).setRecord(record).addAllSources(sources)).build();
    var acked = new TreeSet<Integer>();
    for (int round = 0; round < 3 && acked.size() < 3; round++) {
      var todo = Rules.NODES.stream().filter(node -> !acked.contains(node)).toList();
      everywhere(todo, position -> node(position, 5).commit(request)).forEach((position, answer) -> {
        if (!answer.getResults(0).hasRefusal()) acked.add(position);
      });
    }
    if (acked.size() < 3) throw new Exception(path + ": outcome unknown, committed on " + acked);
    var confirm = ConfirmRequest.newBuilder().addEntries(ConfirmEntry.newBuilder()
        .setPath(path).setTag(record.getTag())).build();
    everywhere(acked, position -> node(position, 5).confirm(confirm));
  }

  // ---- GET

  /** The heads of all nodes that count. */
  Map<Integer, GetChunksHead> heads(String path) throws Exception {
    var request = GetChunksRequest.newBuilder()
        .setByPath(PathSource.newBuilder().setPath(path)).build();
    var heads = everywhere(Rules.NODES, position ->
        node(position, 5).getChunks(request).next().getHead());
    heads.values().removeIf(h -> h.getNode().getStatus() != NodeStatus.NODE_STATUS_SERVING);
    if (heads.size() < 2) throw new Failed(path + ": " + heads.size() + " nodes answered");
    return heads;
  }

  /** The version that counts; null where none was ever written. */
  Record decide(String path, Map<Integer, GetChunksHead> heads) throws Exception {
    var newest = heads.values().stream().filter(head -> head.getStat().hasCurrent())
        .max(Comparator.comparing(head -> head.getStat().getCurrent().getTag(), Main::compare))
        .orElse(null);
    if (newest == null) return null;
    var record = newest.getStat().getCurrent();
    var have = new TreeSet<Integer>();
    boolean confirmed = false;
    for (var head : heads.entrySet()) {
      if (head.getValue().getStat().getCurrent().getTag().equals(record.getTag())) {
        have.add(head.getKey());
        confirmed |= head.getValue().getStat().getConfirmed();
      }
    }
    if (confirmed || have.size() >= 3 || heads.size() < 3) return record;
    var back = CommitRequest.newBuilder().addEntries(CommitEntry.newBuilder().setPath(path)
        .setRecord(record).setWriteBack(true).addSources(nodeRef(newest.getNode()))).build();
    var missing = Rules.NODES.stream().filter(node -> !have.contains(node)).toList();
    everywhere(missing, position -> node(position, 5).commit(back)).forEach((position, answer) -> {
      if (!answer.getResults(0).hasRefusal()) have.add(position);
    });
    if (have.size() < 3) throw new Failed(path + ": its newest version cannot be shown to last");
    return record;
  }

  /** Order of tags: hlc without a sign, then writer as bytes without a sign. */
  static int compare(Tag a, Tag b) {
    int order = Long.compareUnsigned(a.getHlc(), b.getHlc());
    return order != 0 ? order : ByteString.unsignedLexicographicalComparator()
        .compare(a.getWriter(), b.getWriter());
  }

  byte[] get(String path) throws Exception {
    var heads = heads(path);
    var record = decide(path, heads);
    if (record == null || record.getKind() == Kind.KIND_TOMBSTONE) throw new NotFound();
    var content = ByteString.EMPTY;
    for (int chunk : Rules.NODES) content = content.concat(fetch(path, record, heads, chunk));
    var md5 = ByteString.copyFrom(Rules.md5(content.toByteArray()));
    check(md5.equals(record.getManifest().getMd5()), path + ": its MD5 differs");
    return content.toByteArray();
  }

  ByteString fetch(String path, Record record, Map<Integer, GetChunksHead> heads, int chunk)
      throws Exception {
    var info = record.getManifest().getChunks(chunk - 1);
    if (info.getLength() == 0) return ByteString.EMPTY;
    var request = GetChunksRequest.newBuilder().setByUpload(UploadSource.newBuilder()
        .setPath(path).setUploadId(record.getUploadId())
        .addRanges(BlockRange.newBuilder().setChunk(chunk))).build();
    var order = new LinkedHashSet<>(Rules.homesOf(record.getManifest().getX(), chunk));
    order.addAll(Rules.NODES);
    order.retainAll(heads.keySet());
    for (int position : order) {
      var data = ByteString.EMPTY;
      try {
        var answers = node(position, 60).getChunks(request);
        while (answers.hasNext()) {
          var block = answers.next().getBlock();
          var bytes = block.getData().toByteArray();
          check(Rules.crc32c(bytes, 0, bytes.length) == block.getCrc32C(), "a bad block");
          data = data.concat(block.getData());
        }
      } catch (StatusRuntimeException error) {
        continue;
      }
      var bytes = data.toByteArray();
      if (bytes.length == info.getLength()
          && Rules.crc32c(bytes, 0, bytes.length) == info.getCrc32C()) return data;
    }
    throw new Failed(path + ": no good copy of chunk " + chunk);
  }

  // ---- DELETE and LIST

  void remove(String path) throws Exception {
    var heads = heads(path);
    var record = decide(path, heads);
    if (record == null || record.getKind() == Kind.KIND_TOMBSTONE) throw new NotFound();
    if (heads.size() < 3) throw new Failed(path + ": too few nodes");
    var stats = heads.values().stream().map(GetChunksHead::getStat).toList();
    commit(path, Record.newBuilder().setKind(Kind.KIND_TOMBSTONE).setUploadId(random())
        .setTag(Tag.newBuilder().setHlc(chooseHlc(stats)).setWriter(random())).build(), List.of());
  }

  SortedMap<String, ListEntry> list(String prefix, int pageSize) throws Exception {
    var listings = everywhere(Rules.NODES, position -> {
      var entries = new ArrayList<ListEntry>();
      var request = ListRequest.newBuilder().setPrefix(prefix).setPageSize(pageSize);
      do {
        var page = node(position, 5).list(request.build());
        entries.addAll(page.getEntriesList());
        request.setPageToken(page.getNextPageToken());
      } while (!request.getPageToken().isEmpty());
      return entries;
    });
    if (listings.size() < 2) throw new Failed(listings.size() + " nodes listed " + prefix);
    var newest = new TreeMap<String, ListEntry>();
    for (var listing : listings.values()) {
      for (var entry : listing) {
        newest.merge(entry.getPath(), entry,
            (a, b) -> compare(a.getTag(), b.getTag()) < 0 ? b : a);
      }
    }
    newest.values().removeIf(entry -> entry.getKind() == Kind.KIND_TOMBSTONE);
    return newest;
  }

  // ---- What is common

  static ByteString random() {
    var bytes = new byte[16];
    RANDOM.nextBytes(bytes);
    return ByteString.copyFrom(bytes);
  }

  static NodeRef nodeRef(NodeIdentity node) {
    return NodeRef.newBuilder()
        .setPosition(node.getPosition()).setIncarnation(node.getIncarnation()).build();
  }

  static String reasonOf(StatusRuntimeException error) throws Exception {
    var key = Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);
    var details = error.getTrailers() == null ? null : error.getTrailers().get(key);
    if (details == null) return null;
    for (var any : dfs.rpc.Status.parseFrom(details).getDetailsList()) {
      if (any.getTypeUrl().endsWith("google.rpc.ErrorInfo")) {
        var info = ErrorInfo.parseFrom(any.getValue());
        check(info.getDomain().equals("dfs.v1"), "the domain is " + info.getDomain());
        return info.getReason();
      }
    }
    return null;
  }

  static void check(boolean right, String what) {
    if (!right) throw new AssertionError(what);
  }

  // ---- The scenario

  interface Try {
    void run() throws Exception;
  }

  static void refused(String code, String reason, Try call) throws Exception {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      var found = error.getStatus().getCode() + " " + reasonOf(error);
      check(found.equals(code + " " + reason), found + ", not " + code + " " + reason);
      return;
    }
    throw new AssertionError(code + " " + reason + " was expected");
  }

  static void absent(Try call) throws Exception {
    try {
      call.run();
    } catch (NotFound expected) {
      return;
    }
    throw new AssertionError("it should not be found");
  }

  void scenario(String prefix) throws Exception {
    check(nodes.size() == 4, "all four nodes are up");
    refused("UNAUTHENTICATED", "INVALID_CREDENTIALS", () -> new Main("wrong"));
    var other = DfsServiceGrpc.newBlockingStub(NettyChannelBuilder.forTarget(
        System.getenv("DFS_NODES").split(",")[0]).usePlaintext().build());
    var list = ListRequest.getDefaultInstance();
    refused("UNAUTHENTICATED", "TOKEN_MISSING", () -> other.list(list));
    refused("UNAUTHENTICATED", "TOKEN_EXPIRED", () -> other.withInterceptors(
        MetadataUtils.newAttachHeadersInterceptor(bearer("made-up"))).list(list));
    for (String bad : List.of("/a", "a//b", "../a", "a\\b", "a\nb", "x".repeat(256), "")) {
      var stat = StatRequest.newBuilder().addQueries(StatQuery.newBuilder().setPath(bad)).build();
      refused("INVALID_ARGUMENT", "INVALID_FILE_NAME", () -> node(2, 5).stat(stat));
    }
    var unknown = GetChunksRequest.newBuilder().setByUpload(UploadSource.newBuilder().setPath("a")
        .setUploadId(random()).addRanges(BlockRange.newBuilder().setChunk(1))).build();
    refused("NOT_FOUND", "CHUNK_NOT_FOUND", () -> node(2, 5).getChunks(unknown).next());
    absent(() -> get(prefix + "/never"));
    absent(() -> remove(prefix + "/never"));
    errorsOfUploads(prefix + "/uploads");
    lifeOfAFile(prefix + "/file");
  }

  void errorsOfUploads(String path) throws Exception {
    var content = "some content of a file".getBytes();
    var manifest = describe(content);
    var upload = random();
    var stream = chunkStream(path, upload, manifest, content, List.of(1));
    var block = stream.get(1).getBlock();
    refused("INVALID_ARGUMENT", "CHECKSUM_MISMATCH", () -> send(3, List.of(stream.get(0),
        PutChunkRequest.newBuilder().setBlock(block.toBuilder().setCrc32C(1)).build())));
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", () -> send(3, stream.subList(1, 2)));
    refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", () -> send(3, stream.subList(0, 1)));
    var large = new byte[5 << 20];
    var announced = chunkStream(path, upload, describe(large), large, List.of(1)).get(0);
    Function<Integer, PutChunkRequest> sized = size -> PutChunkRequest.newBuilder().setBlock(
        Block.newBuilder().setChunk(1).setData(ByteString.copyFrom(large, 0, size))
            .setCrc32C(Rules.crc32c(large, 0, size))).build();
    refused("INVALID_ARGUMENT", "CHECKSUM_MISMATCH",
        () -> send(3, List.of(announced, sized.apply(5 << 18))));
    refused("OUT_OF_RANGE", "MESSAGE_TOO_LARGE", () -> send(3, List.of(announced, sized.apply(5 << 20))));
    var record = Record.newBuilder().setUploadId(upload).setManifest(manifest)
        .setKind(Kind.KIND_FILE).setTag(Tag.newBuilder().setHlc(1L << 40).setWriter(random()));
    var commit = CommitRequest.newBuilder().addEntries(
        CommitEntry.newBuilder().setPath(path).setRecord(record)).build();
    var reason = node(3, 5).commit(commit).getResults(0).getRefusal().getReason();
    check(reason.equals("NOT_PREPARED"), reason);
  }

  void lifeOfAFile(String path) throws Exception {
    var large = new byte[5_000_001];
    RANDOM.nextBytes(large);
    for (byte[] content : List.of("the first version".getBytes(), large)) {
      var record = put(path, content);
      check(Arrays.equals(get(path), content), "what was read differs");
      for (int position : Rules.NODES) {
        var stat = node(position, 5).stat(StatRequest.newBuilder()
            .addQueries(StatQuery.newBuilder().setPath(path)).build()).getStats(0);
        check(stat.getCurrent().getTag().equals(record.getTag()) && stat.getConfirmed(), "its tag");
        int home = Rules.mask(Rules.chunksOf(record.getManifest().getX(), position));
        check(stat.getCurrent().getHave() == home, "its place on node " + position);
      }
    }
    remove(path);
    absent(() -> get(path));
    for (int size : new int[] {0, 1}) check(!list(path, size).containsKey(path), "it is listed");
  }

  public static void main(String[] arguments) throws Exception {
    var main = new Main(System.getenv("DFS_PASSWORD"));
    switch (arguments[0]) {
      case "put-all" -> {
        try (var files = Files.list(Path.of(arguments[1]))) {
          for (var file : files.sorted().toList()) {
            main.put(arguments[2] + "/" + file.getFileName(), Files.readAllBytes(file));
          }
        }
      }
      case "get-all" -> {
        Files.createDirectories(Path.of(arguments[2]));
        for (var path : main.list(arguments[1] + "/", 0).keySet()) {
          var name = path.substring(arguments[1].length() + 1);
          Files.write(Path.of(arguments[2], name), main.get(path));
        }
      }
      case "scenario" -> main.scenario(arguments[1]);
      default -> throw new IllegalArgumentException(arguments[0]);
    }
    System.exit(0);
  }
}
