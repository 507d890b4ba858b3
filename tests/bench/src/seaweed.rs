//! SeaweedFS: a master, four volume servers and a filer with S3; every file on two servers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;

use crate::error::Error;
use crate::filer::Filer;
use crate::s3::Bucket;
use crate::server::{self, START_LIMIT, Server};
use crate::sign::Keys;

/// Ports: one of each kind, then four volume servers. The ports for gRPC are 10,000 above.
const PORTS: u16 = 7;
const GRPC_OFFSET: u16 = 10_000;

/// A cluster.
pub(crate) struct Seaweed {
    pub(crate) filer: Filer,
    pub(crate) bucket: Bucket,
    volumes: Vec<Server>,
    others: Vec<Server>,
}

impl Seaweed {
    /// Starts a cluster with its data in `dir`. With `fsync` it syncs what it acknowledges.
    pub(crate) async fn start(weed: &Path, dir: &Path, fsync: bool) -> Result<Self, Error> {
        let base = server::free_ports(PORTS, GRPC_OFFSET)?;
        let at = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, base + offset));
        let run = |name: &str, offset: u16, args: &[String]| {
            let data = dir.join(name);
            fs::create_dir_all(&data).map_err(Error::file("make", &data))?;
            let set_up = |command: &mut Command| {
                command.current_dir(dir).arg(name.trim_end_matches(|c: char| c.is_numeric()));
                command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
                command.arg(format!("-port={}", at(offset).port())).args(args);
            };
            Server::start(weed, set_up, &dir.join(format!("{name}.log")))
        };
        let place = |name: &str| dir.join(name).display().to_string();
        let mut others = Vec::new();
        let args = ["-defaultReplication=001", "-volumeSizeLimitMB=4096", "-telemetry=false"];
        let args = args.map(str::to_owned).to_vec();
        let own = [format!("-mdir={}", place("master")), "-peers=none".to_owned()];
        others.push(run("master", 0, &[args, own.to_vec()].concat())?);
        server::listens(at(0), "weed master").await?;
        let master = format!("-master={}", at(0));
        let mut volumes = Vec::new();
        for number in 1..=4 {
            let name = format!("volume{number}");
            let args = ["-max=100", "-minFreeSpace=1", "-preStopSeconds=0"].map(str::to_owned);
            let own = [format!("-dir={}", place(&name)), master.clone()];
            volumes.push(run(&name, 2 + number, &[args.to_vec(), own.to_vec()].concat())?);
            server::listens(at(2 + number), "weed volume").await?;
        }
        let keys = Keys {
            id: "bench".to_owned(),
            secret: "benchbenchbench".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let users = dir.join("s3.json");
        fs::write(&users, identities(&keys)).map_err(Error::file("write", &users))?;
        let args =
            ["-defaultReplicaPlacement=001", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"];
        let own = [
            format!("-defaultStoreDir={}", place("filer")),
            format!("-s3.port={}", at(2).port()),
            format!("-s3.config={}", users.display()),
            master,
        ];
        let args = [args.map(str::to_owned), own].concat();
        others.push(run("filer", 1, &args)?);
        server::listens(at(1), "weed filer").await?;
        server::listens(at(2), "weed filer -s3").await?;
        let bucket = Bucket { addresses: vec![at(2)], name: "bench".to_owned(), keys };
        let filer = Filer { weed: weed.to_owned(), address: at(1), home: dir.to_owned() };
        let cluster = Self { filer, bucket, volumes, others };
        cluster.await_ready().await?;
        if fsync {
            cluster.sync_all(weed, dir, at(0)).await?;
        }
        Ok(cluster)
    }

    /// Waits until a file can be stored both ways: the servers find each other in their own time.
    async fn await_ready(&self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let made = async {
                self.bucket.make().await?;
                self.bucket.connect(0).put("ready", Bytes::from_static(b"x")).await?;
                let body = Bytes::from_static(b"x");
                crate::filer::put(&mut self.filer.connect(), "ready", body).await
            };
            match made.await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > START_LIMIT => return Err(error),
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            }
        }
    }

    async fn sync_all(&self, weed: &Path, dir: &Path, master: SocketAddr) -> Result<(), Error> {
        let script = dir.join("fsync");
        let rules = ["/buckets/bench/", "/bench/"]
            .map(|folder| format!("fs.configure -locationPrefix={folder} -fsync -apply\n"));
        fs::write(&script, rules.concat()).map_err(Error::file("write", &script))?;
        let shell = |command: &mut Command| {
            let line = r#"exec "$0" shell -master="$1" -filer="$2" < "$3""#;
            command.current_dir(dir).args(["-c", line]).arg(weed).arg(master.to_string());
            command.arg(self.filer.address.to_string()).arg(&script);
        };
        let said = server::ask_tool(Path::new("/bin/sh"), shell).await?;
        let words = said.split_whitespace().collect::<String>();
        if words.contains("\"fsync\":true") {
            Ok(())
        } else {
            Err(Error::refused("weed shell", said))
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.volumes.iter().chain(&self.others).map(Server::pid).collect()
    }

    /// Kills a volume server.
    pub(crate) fn lose_one(&mut self) {
        drop(self.volumes.pop());
    }
}

fn identities(keys: &Keys) -> String {
    serde_json::json!({
        "identities": [{
            "name": "bench",
            "credentials": [{ "accessKey": keys.id, "secretKey": keys.secret }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }],
    })
    .to_string()
}
