//! Attacks from the network on one node: it stays up, its memory keeps within bounds, and an
//! honest client is served meanwhile. `DFS_CONNECTIONS` sets how many connections are tried, and
//! `DFS_TIMES` how often the honest client puts and gets, for the table in `SECURITY.md`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dfs_proto::wire::pb;
use dfs_proto::wire::pb::dfs_service_client::DfsServiceClient;
use dfs_proto::wire::status::Reason;
use harness::api::{block_on, connect, send_raw};
use harness::content::noise;
use harness::{Cluster, Rng, wait};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tonic::Code;

use crate::PROGRAMS;

/// The node that is attacked.
const TARGET: usize = 1;
/// More than it needs for a usual load, and less than what grows with every connection.
const MAX_MEMORY_KIB: u64 = 400 << 10;
/// No attack goes on for longer, even if something else fails.
const LONG: Duration = Duration::from_secs(120);
/// Streams that one user may leave unread, as it is without a setting.
const SLOW_READS_PER_USER: usize = 32;
/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The beginning of a handshake.
const HALF_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7, 7, 7, 7];

fn connections() -> usize {
    let set = std::env::var("DFS_CONNECTIONS").ok();
    set.map_or(3000, |set| set.parse().expect("DFS_CONNECTIONS is a number"))
}

fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the hard limit may be reached");
}

/// What an honest client saw: how long a put and a get took together, each time.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    left_out: usize,
}

impl Seen {
    /// Puts and gets a file so often; every time has to work.
    fn by_honest_client(cluster: &Cluster, times: usize) -> Self {
        let mut seen = Self::default();
        let times = std::env::var("DFS_TIMES")
            .ok()
            .map_or(times, |set| set.parse().expect("DFS_TIMES is a number"));
        for number in 0..times {
            let content = noise(number as u64, 100_000);
            let started = Instant::now();
            let put = cluster.dfsctl().args(["put", "-", "honest"]).stdin(content.clone());
            let put = put.run().ok();
            let get = cluster.ctl(["get", "honest", "-"]).ok();
            seen.times.push(started.elapsed());
            assert!(get.stdout == content, "what was put is what is read");
            seen.left_out += usize::from(put.stderr.contains("left out"));
            seen.left_out += usize::from(get.stderr.contains("left out"));
        }
        seen.times.sort();
        seen
    }

    fn tell(&self, when: &str) {
        let median = self.times[self.times.len() / 2];
        let ninety_nine = self.times[(self.times.len() * 99).div_ceil(100) - 1];
        let most = self.times[self.times.len() - 1];
        let (times, left_out) = (self.times.len(), self.left_out);
        eprintln!(
            "{when}: {times} times put and get, p50 {median:?}, p99 {ninety_nine:?}, at most \
             {most:?}, node left out {left_out}"
        );
    }
}

fn peak_memory(cluster: &Cluster) -> u64 {
    cluster.process(TARGET).peak_memory_kib().expect("the node runs")
}

/// Connects from one of several addresses: an address has its own share of the places.
async fn connect_from(number: usize, to: SocketAddr) -> Option<TcpStream> {
    let from = format!("127.0.{}.1:0", 1 + number % 8);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(from.parse().expect("an address")).expect("every 127.x.y.z is this host");
    let connected = tokio::time::timeout(Duration::from_secs(2), socket.connect(to)).await;
    connected.ok()?.ok()
}

/// Opens many connections that ask for nothing: silent ones, half handshakes, and some that
/// send a byte a second. Opens new ones for those that are closed, until `done`.
async fn crowd(to: SocketAddr, count: usize, opened: &AtomicUsize, done: &AtomicBool) {
    let mut open: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let started = Instant::now();
    while !done.load(Ordering::Relaxed) && started.elapsed() < LONG {
        for (number, slot) in open.iter_mut().enumerate() {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let byte = &mut [0; 64];
            let gone = match slot {
                None => true,
                Some(tcp) => match tcp.try_read(byte) {
                    Ok(0) => true,
                    Ok(_) => false,
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                },
            };
            if gone {
                *slot = connect_from(number, to).await;
                opened.fetch_add(usize::from(slot.is_some()), Ordering::Relaxed);
            }
            if let Some(tcp) = slot {
                let bytes = match (number % 3, gone) {
                    (1, true) => HALF_HELLO,
                    (2, _) => &HALF_HELLO[..1],
                    _ => continue,
                };
                // A closed one is opened anew in the next round.
                let _ = tcp.try_write(bytes);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[test]
fn connections_that_ask_for_nothing_keep_nobody_out() {
    raise_file_limit();
    let cluster = Cluster::written_with_tls(PROGRAMS);
    cluster.configure(TARGET, "limits", "{ first_call: 3s, handshake_time: 2s }");
    let cluster = cluster.started();
    Seen::by_honest_client(&cluster, 5).tell("before");
    let (opened, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let to = cluster.address(TARGET);
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(crowd(to, connections(), &opened, &done)));
        wait::until_true("the crowd is there", Duration::from_secs(60), || {
            opened.load(Ordering::Relaxed) >= connections()
        });
        let seen = Seen::by_honest_client(&cluster, 10);
        done.store(true, Ordering::Relaxed);
        seen.tell(&format!("{} connections opened", opened.load(Ordering::Relaxed)));
    });
    let memory = peak_memory(&cluster);
    eprintln!("peak memory {} MiB", memory >> 10);
    assert!(memory < MAX_MEMORY_KIB, "{memory} KiB");
    cluster.ctl(["list"]).ok().does_not_say("left out");
}

#[test]
fn a_connection_that_asks_for_nothing_is_closed_and_one_that_works_is_not() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.configure(TARGET, "limits", "{ first_call: 1s, connections_per_address: 3 }");
    let cluster = cluster.started();
    block_on(async {
        let mut working = cluster.api(TARGET).await;
        let mut silent = TcpStream::connect(cluster.address(TARGET)).await.expect("it listens");
        silent.write_all(&PREFACE[..5]).await.expect("it is open");
        let mut rest = Vec::new();
        let read = silent.read_to_end(&mut rest);
        let closed = tokio::time::timeout(Duration::from_secs(10), read).await;
        // An end or a reset, as the system has it.
        drop(closed.expect("closed by the node"));
        // More than there are places for: they take each other's.
        let to = cluster.address(TARGET);
        for _ in 0..50 {
            TcpStream::connect(to).await.expect("it listens");
        }
        assert_eq!(working.stat("nothing").await.current, None, "never one that has logged in");
    });
}

/// Opens streams and resets them at once; returns how many went through.
async fn reset_rapidly(to: SocketAddr, count: usize) -> usize {
    let Ok(tcp) = TcpStream::connect(to).await else { return 0 };
    let Ok((mut client, connection)) = h2::client::handshake(tcp).await else { return 0 };
    let driver = tokio::spawn(connection);
    let mut sent = 0;
    while sent < count {
        let uri = format!("http://{to}/dfs.v1.DfsService/PutChunk");
        let request = http::Request::post(uri).body(()).expect("a request");
        let Ok(ready) = client.ready().await else { break };
        client = ready;
        let Ok((answer, mut stream)) = client.send_request(request, false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        sent += 1;
        if sent % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    driver.abort();
    sent
}

/// Sends bytes that are no frames, or frames that nobody should send.
async fn send_garbage(to: SocketAddr, seed: u64) {
    let Ok(mut tcp) = TcpStream::connect(to).await else { return };
    let mut garbage = PREFACE.to_vec();
    match seed % 3 {
        0 => garbage.extend(noise(seed, 5000)),
        // Settings, and then a frame of 16 MiB that is announced and does not come.
        1 => garbage.extend([0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        // Settings without an end.
        _ => garbage.extend([0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(20_000)),
    }
    // The node may close it at any byte.
    let _ = tokio::time::timeout(Duration::from_secs(2), tcp.write_all(&garbage)).await;
}

/// Logs in with wrong passwords until the time is over; returns how many were refused for the
/// password and how many for their number.
async fn guess(to: SocketAddr, until: Instant, number: usize) -> (usize, usize) {
    let mut client = DfsServiceClient::new(connect(to).await);
    let (mut wrong, mut too_many) = (0, 0);
    while Instant::now() < until {
        let user = format!("user{}", (number * 7 + wrong + too_many) % 100);
        let request = pb::AuthenticateRequest { user, password: "a guess".to_owned() };
        let refused = client.authenticate(request).await.err().expect("a wrong password");
        match Reason::of(&refused) {
            Some(Reason::InvalidCredentials) => wrong += 1,
            Some(Reason::Overloaded) => too_many += 1,
            other => panic!("{other:?}: {refused}"),
        }
    }
    (wrong, too_many)
}

#[test]
fn floods_of_calls_and_bad_frames_keep_nobody_out() {
    let cluster = Cluster::start(PROGRAMS);
    let to = cluster.address(TARGET);
    Seen::by_honest_client(&cluster, 5).tell("before");
    let (done, started) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                for seed in 0.. {
                    if done.load(Ordering::Relaxed) || started.elapsed() > LONG {
                        return;
                    }
                    let resets = (0..4).map(|_| tokio::spawn(reset_rapidly(to, 2000)));
                    let resets: Vec<_> = resets.collect();
                    let garbage = (0..20).map(|n| tokio::spawn(send_garbage(to, seed * 20 + n)));
                    let garbage: Vec<_> = garbage.collect();
                    for task in resets {
                        task.await.expect("no panic");
                    }
                    for task in garbage {
                        task.await.expect("no panic");
                    }
                }
            });
        });
        let seen = Seen::by_honest_client(&cluster, 10);
        done.store(true, Ordering::Relaxed);
        seen.tell("resets and garbage");
    });

    std::thread::scope(|scope| {
        let until = Instant::now() + Duration::from_secs(4);
        let flood = scope.spawn(move || {
            block_on(async move {
                let guesses = (0..32).map(|number| tokio::spawn(guess(to, until, number)));
                let mut sum = (0, 0);
                for guess in guesses.collect::<Vec<_>>() {
                    let (wrong, too_many) = guess.await.expect("no panic");
                    sum = (sum.0 + wrong, sum.1 + too_many);
                }
                sum
            })
        });
        Seen::by_honest_client(&cluster, 5).tell("guessed passwords");
        let (wrong, too_many) = flood.join().expect("no panic");
        eprintln!("{wrong} passwords were compared, {too_many} not any more");
        assert!(wrong < 200 && too_many > wrong, "{wrong} {too_many}");
    });
    let memory = peak_memory(&cluster);
    eprintln!("peak memory {} MiB", memory >> 10);
    assert!(memory < MAX_MEMORY_KIB, "{memory} KiB");
    cluster.ctl(["list"]).ok().does_not_say("left out");
}

type Answered = Result<tonic::Response<tonic::Streaming<pb::GetChunksResponse>>, tonic::Status>;

/// How far an attack is.
#[derive(Default)]
struct Attack {
    begun: AtomicBool,
    done: AtomicBool,
}

/// Opens many streams on a few connections and takes nothing of them; returns how many ended.
async fn read_nothing(cluster: &Cluster, upload: &[u8], chunk: u32, attack: &Attack) -> usize {
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut api = cluster.api_as("mallory", TARGET).await;
        for _ in 0..100 {
            let source = pb::UploadSource {
                path: "large".to_owned(),
                upload_id: upload.to_vec(),
                ranges: vec![pb::BlockRange { chunk, ..Default::default() }],
            };
            let request = pb::GetChunksRequest {
                source: Some(pb::get_chunks_request::Source::ByUpload(source)),
            };
            let call = api.client.clone();
            streams.push(tokio::spawn(async move {
                let mut call = call;
                call.get_chunks(request).await
            }));
        }
        // The connection stays.
        api.stat("large").await;
    }
    let started = Instant::now();
    while !attack.done.load(Ordering::Relaxed) && started.elapsed() < LONG {
        let answered = streams.iter().filter(|stream| stream.is_finished()).count();
        attack.begun.fetch_or(answered >= SLOW_READS_PER_USER, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ends = streams.into_iter().map(|stream| tokio::spawn(has_ended(stream)));
    let mut ended = 0;
    for end in ends.collect::<Vec<_>>() {
        ended += usize::from(end.await.expect("no panic"));
    }
    ended
}

/// Whether a stream was ended by the node, and not for another reason than that nobody read it.
async fn has_ended(stream: JoinHandle<Answered>) -> bool {
    if !stream.is_finished() {
        stream.abort();
        return false;
    }
    let Ok(Ok(answer)) = stream.await else { return true };
    // What had been taken in before, and then why there is no more.
    let mut messages = answer.into_inner();
    let last = async {
        loop {
            match messages.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(status) => {
                    // Or its whole connection, later.
                    let why = Reason::of(&status);
                    assert!(matches!(why, Some(Reason::StreamIdle) | None), "{status}");
                    return true;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), last).await.unwrap_or(false)
}

#[test]
fn readers_that_take_nothing_keep_nobody_out() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.add_user("mallory");
    let cluster = cluster.started();
    cluster.file("large", noise(5, 40 << 20));
    cluster.dfsctl_as("mallory").args(["put", "large"]).run().ok();
    Seen::by_honest_client(&cluster, 5).tell("before");
    let attack = Attack::default();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            block_on(async {
                let mut api = cluster.api_as("mallory", TARGET).await;
                let record = api.stat("large").await.current.expect("it was put");
                let chunk = (1..=4).find(|chunk| record.have & 1 << (chunk - 1) != 0);
                read_nothing(&cluster, &record.upload_id, chunk.expect("one"), &attack).await
            })
        });
        wait::until_true("he has all that he may", Duration::from_secs(60), || {
            attack.begun.load(Ordering::Relaxed)
        });
        let seen = Seen::by_honest_client(&cluster, 10);
        seen.tell("400 streams of which nothing is read");
        // Not even he himself is kept out.
        let get = cluster.dfsctl_as("mallory").args(["get", "large", "-"]).run().ok();
        assert!(get.stdout == noise(5, 40 << 20));
        attack.done.store(true, Ordering::Relaxed);
        let ended = reading.join().expect("no panic");
        eprintln!("{ended} of the streams were ended");
        assert!(ended > 0);
    });
    let memory = peak_memory(&cluster);
    eprintln!("peak memory {} MiB", memory >> 10);
    assert!(memory < MAX_MEMORY_KIB, "{memory} KiB");
}

#[test]
fn what_is_too_large_or_too_slow_is_refused() {
    let cluster = Cluster::written(PROGRAMS);
    cluster.configure(TARGET, "limits", "{ put_idle: 1s }");
    let cluster = cluster.started();
    let login = "/dfs.v1.DfsService/Authenticate";
    block_on(async {
        let channel = connect(cluster.address(TARGET)).await;
        for size in [100 << 10, 3 << 20, 8 << 20] {
            let refused = send_raw(channel.clone(), login, vec![b'x'; size]).await;
            let code = refused.expect_err("too long").code();
            assert_ne!(code, Code::Unauthenticated, "{size} bytes were not read as a login");
        }
        let mut api = cluster.api(TARGET).await;
        let refused = api.send_raw("Commit", vec![b'x'; 8 << 20]).await;
        assert_eq!(refused.expect_err("too long").code(), Code::OutOfRange);
        let mut request = tonic::Request::new(pb::ListRequest::default());
        let long = "y".repeat(64 << 10).parse().expect("visible characters");
        request.metadata_mut().insert("x-long", long);
        api.client.list(request).await.expect_err("headers that long are refused");

        let mut api = cluster.api(TARGET).await;
        let started = Instant::now();
        let stream = tokio_stream::pending::<pb::PutChunkRequest>();
        let idle = api.client.put_chunk(tonic::Request::new(stream)).await.expect_err("idle");
        assert_eq!(Reason::of(&idle), Some(Reason::StreamIdle), "{idle}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(api.stat("nothing").await.current, None, "the connection goes on");
    });
    let mut rng = Rng::fresh();
    block_on(async {
        // What is left of a connection that was cut off anywhere.
        for _ in 0..50 {
            let mut tcp = TcpStream::connect(cluster.address(TARGET)).await.expect("it listens");
            let length = rng.next_u64() as usize % PREFACE.len();
            tcp.write_all(&PREFACE[..length]).await.expect("it is open");
        }
    });
    cluster.ctl(["list"]).ok().does_not_say("left out");
}
