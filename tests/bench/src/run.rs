//! Runs work on each system in turn, round after round.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::content::{self, Contents, name_in_tree};
use crate::error::Error;
use crate::floor::{self, Nginx};
use crate::local::{self, discard};
use crate::meter::{self, Meter};
use crate::results::{self, Line, Sample};
use crate::small::{self, Task, Times};
use crate::target::{Stores, Target};
use crate::work::{Floor, Work, Workload};

/// How many small files are under way where they are only set up, or a folder is moved.
const CROWD: u64 = 64;

/// Limit for one large file or one folder.
const TOOL_LIMIT: Duration = Duration::from_secs(600);

/// What to do.
pub(crate) struct Plan {
    pub(crate) targets: Vec<Target>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: u32,
    /// No round begins after that.
    pub(crate) until: Option<Instant>,
    pub(crate) results: PathBuf,
    /// For local files, on the disk where the stores' data is.
    pub(crate) dir: PathBuf,
    pub(crate) nginx: Option<PathBuf>,
    /// Added to the names of systems whose peers sync.
    pub(crate) suffix: &'static str,
}

/// A run of a plan.
pub(crate) struct Bench {
    plan: Plan,
    stores: Stores,
    contents: Contents,
    /// What has been stored to be read, by name.
    stored: HashSet<String>,
}

/// What there is to say of work besides its cost.
#[derive(Default)]
struct Seen {
    tool_kib: Option<u64>,
    times: Option<Times>,
    first: Option<Duration>,
}

impl Bench {
    pub(crate) fn new(plan: Plan, stores: Stores) -> Result<Self, Error> {
        Ok(Self { plan, stores, contents: Contents::fresh()?, stored: HashSet::new() })
    }

    /// Does all of it. What fails is a result as well.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let (down, up): (Vec<_>, Vec<_>) =
            self.plan.workloads.clone().into_iter().partition(|workload| workload.degraded);
        for workload in &up {
            self.rounds_of(workload).await?;
        }
        if !down.is_empty() {
            // What is read while a node is down was stored while all were up.
            for workload in &down {
                for target in self.targets_of(workload.work) {
                    self.prepare(target, workload.work).await?;
                }
            }
            self.stores.lose_one().await?;
            for workload in &down {
                self.rounds_of(workload).await?;
            }
        }
        Ok(())
    }

    fn targets_of(&self, work: Work) -> Vec<Target> {
        let listed =
            |target: &Target| !matches!(work, Work::List { .. }) || *target != Target::SeaweedFiler;
        let targets = self.plan.targets.iter().copied().filter(listed);
        if matches!(work, Work::Floor(_)) { Vec::new() } else { targets.collect() }
    }

    async fn rounds_of(&mut self, workload: &Workload) -> Result<(), Error> {
        let targets = self.targets_of(workload.work);
        let mut ready = Vec::new();
        for target in targets {
            match self.prepare(target, workload.work).await {
                Ok(()) => ready.push(target),
                Err(error) => self.report(workload, target.name(), 0, Err(error))?,
            }
        }
        if matches!(workload.work, Work::GetTree { .. }) {
            tokio::time::sleep(local::REMOVAL).await;
        }
        for round in 0..self.plan.rounds {
            if self.plan.until.is_some_and(|until| Instant::now() >= until) {
                eprintln!("{}: out of time after {round} rounds", workload.name);
                return Ok(());
            }
            if let Work::Floor(floor) = workload.work {
                let done = self.floor(workload, floor).await;
                self.report(workload, "this machine", round, done)?;
                continue;
            }
            self.make_sources(workload.work)?;
            for target in &ready {
                let done = self.once(workload, *target, round).await;
                self.report(workload, target.name(), round, done)?;
            }
        }
        Ok(())
    }

    fn report(
        &self,
        workload: &Workload,
        system: &str,
        round: u32,
        done: Result<Sample, Error>,
    ) -> Result<(), Error> {
        let failed = |error: Error| Sample { error: Some(error.to_string()), ..Sample::default() };
        let mut sample = done.unwrap_or_else(failed);
        sample.workload.clone_from(&workload.name);
        sample.system = if system == "dfs" || system == "this machine" {
            system.to_owned()
        } else {
            format!("{system}{}", self.plan.suffix)
        };
        sample.round = round;
        println!("{}", results::shown(&sample));
        results::add(&self.plan.results, &Line::Sample(sample))
    }

    // ---- Local files

    /// The local file `number` of `size` bytes.
    fn source(&self, size: u64, number: u64) -> PathBuf {
        self.plan.dir.join(format!("source-{size}-{number}"))
    }

    /// The local folder of so many files of `size` bytes.
    fn tree(&self, size: u64, files: u64) -> PathBuf {
        self.plan.dir.join(format!("tree-{size}-{files}"))
    }

    /// Where files are read to.
    fn copy(&self) -> PathBuf {
        self.plan.dir.join("copy")
    }

    /// New bytes for work that stores files from disk.
    fn make_sources(&mut self, work: Work) -> Result<(), Error> {
        match work {
            Work::PutFiles { count, size } => {
                let contents = Contents::fresh()?;
                (0..count).try_for_each(|n| contents.write(n, size, &self.source(size, n)))
            }
            Work::PutTree { size, files } => {
                let tree = self.tree(size, files);
                local::set_aside(&tree)?;
                Contents::fresh()?.write_tree(files, length(size), &tree)
            }
            _ => Ok(()),
        }
    }

    // ---- What is there to be read

    /// Stores what `work` reads, unless it is there already.
    async fn prepare(&mut self, target: Target, work: Work) -> Result<(), Error> {
        let (stores, contents) = (&self.stores, self.contents);
        let name = kept(work);
        let key = format!("{}/{name}", target.name());
        match work {
            _ if self.stored.contains(&key) => return Ok(()),
            Work::GetFiles { count, size, .. } => {
                for number in 0..count {
                    let source = self.kept_source(size, number);
                    if !source.exists() {
                        contents.write(number, size, &source)?;
                    }
                    let name = format!("{name}/{number}");
                    stores.put_file(target, &source, &name, TOOL_LIMIT).await?;
                }
            }
            Work::Get { size, files, .. } | Work::GetTree { size, files } => {
                let task = Task::Put(contents, length(size));
                small::each(stores, target, &name, (files, CROWD), task).await?;
            }
            Work::List { files } => {
                let task = Task::Put(contents, 1);
                small::each(stores, target, &name, (files, CROWD), task).await?;
            }
            _ => return Ok(()),
        }
        self.stored.insert(key);
        Ok(())
    }

    fn kept_source(&self, size: u64, number: u64) -> PathBuf {
        self.plan.dir.join(format!("kept-{size}-{number}"))
    }

    // ---- One piece of work

    async fn once(&self, workload: &Workload, target: Target, round: u32) -> Result<Sample, Error> {
        let (stores, work) = (&self.stores, workload.work);
        let pids = stores.pids(target);
        let name = format!("{}/{round}", workload.name);
        let copy = self.copy();
        match work {
            Work::GetFiles { count, .. } => {
                (0..count).try_for_each(|number| discard(&copy.with_extension(number.to_string())))
            }
            Work::GetTree { .. } if target == Target::Dfs => local::set_aside(&copy),
            // Clients that write the files themselves find the folders there.
            Work::GetTree { files, .. } => {
                local::set_aside(&copy).and_then(|()| content::make_folders(files, &copy))
            }
            _ => Ok(()),
        }?;
        if matches!(work, Work::GetFiles { cold: true, .. }) {
            if !meter::chill() {
                return Err(Error::refused("the page cache", "only root can empty it"));
            }
        } else {
            meter::settle(work.bytes());
        }
        let meter = Meter::start(&pids);
        let seen = self.perform(work, target, &name).await?;
        let cost = meter.stop();
        match work {
            Work::PutFiles { count, size } => {
                for number in 0..count {
                    let name = format!("{name}/{number}");
                    stores.remove_file(target, &self.source(size, number), &name).await?;
                }
            }
            Work::GetFiles { count, size, .. } if round == 0 => {
                for number in 0..count {
                    let copy = copy.with_extension(number.to_string());
                    content::same(&self.kept_source(size, number), &copy)?;
                }
            }
            Work::GetTree { size, files } => self.check_tree(&copy, size, files)?,
            _ => {}
        }
        Ok(sample(work, cost, &seen))
    }

    async fn perform(&self, work: Work, target: Target, name: &str) -> Result<Seen, Error> {
        let stores = &self.stores;
        let mut seen = Seen::default();
        match work {
            Work::PutFiles { count, size } => {
                let each = (0..count).map(|number| async move {
                    let source = self.source(size, number);
                    let name = format!("{name}/{number}");
                    stores.put_file(target, &source, &name, TOOL_LIMIT).await
                });
                seen.tool_kib = together(each.collect()).await?;
            }
            Work::GetFiles { count, size, .. } => {
                let kept = &kept(work);
                let each = (0..count).map(|number| async move {
                    let source = self.kept_source(size, number);
                    let name = format!("{kept}/{number}");
                    let copy = self.copy().with_extension(number.to_string());
                    let (from, to) = ((&*source, &*name), (&*copy, size));
                    stores.get_file(target, from, to, TOOL_LIMIT).await
                });
                seen.tool_kib = together(each.collect()).await?;
            }
            Work::Put { size, files, at_once } => {
                let task = Task::Put(Contents::fresh()?, length(size));
                let times = small::each(stores, target, name, (files, at_once), task).await?;
                seen.times = Some(times);
            }
            Work::Get { size, files, at_once } => {
                let (name, task) = (kept(work), Task::Get(size));
                let times = small::each(stores, target, &name, (files, at_once), task).await?;
                seen.times = Some(times);
            }
            Work::PutTree { size, files } => {
                let tree = self.tree(size, files);
                seen.tool_kib = self.put_tree(target, &tree, name, files).await?;
            }
            Work::GetTree { files, .. } => {
                seen.tool_kib = self.get_tree(target, &kept(work), files).await?;
            }
            Work::List { files } => {
                let (count, first) = self.list(target, &format!("{}/", kept(work))).await?;
                if count != files {
                    return Err(Error::refused("the list", format!("{count} of {files} files")));
                }
                seen.first = Some(first);
            }
            Work::Floor(_) => {}
        }
        Ok(seen)
    }

    async fn put_tree(
        &self,
        target: Target,
        tree: &Path,
        name: &str,
        files: u64,
    ) -> Result<Option<u64>, Error> {
        match target {
            Target::Dfs => {
                let put = |ctl: &mut std::process::Command| {
                    ctl.args(["put", "-r"]).arg(tree).arg(name);
                };
                self.stores.dfs()?.ctl(put, TOOL_LIMIT).await.map(Some)
            }
            Target::SeaweedFiler => {
                self.stores.seaweed()?.filer.copy(tree, name, TOOL_LIMIT).await.map(Some)
            }
            Target::SeaweedS3 | Target::Garage => {
                let task = Task::PutFrom(Arc::from(tree));
                small::each(&self.stores, target, name, (files, CROWD), task).await?;
                Ok(None)
            }
        }
    }

    async fn get_tree(&self, target: Target, name: &str, files: u64) -> Result<Option<u64>, Error> {
        let copy = self.copy();
        if target == Target::Dfs {
            let get = |ctl: &mut std::process::Command| {
                ctl.args(["get", "-r", name]).arg(copy);
            };
            return self.stores.dfs()?.ctl(get, TOOL_LIMIT).await.map(Some);
        }
        let task = Task::GetTo(Arc::from(copy));
        small::each(&self.stores, target, name, (files, CROWD), task).await?;
        Ok(None)
    }

    fn check_tree(&self, copy: &Path, size: u64, files: u64) -> Result<(), Error> {
        for number in (0..files).step_by(97) {
            let path = copy.join(name_in_tree(number));
            let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
            if bytes != self.contents.body(number, length(size)) {
                return Err(Error::refused(path.display().to_string(), "is not what was stored"));
            }
        }
        Ok(())
    }

    async fn list(&self, target: Target, prefix: &str) -> Result<(u64, Duration), Error> {
        let mut bucket = match target {
            Target::Dfs => return self.stores.dfs()?.list(prefix).await,
            Target::Garage => self.stores.garage()?.bucket.connect(),
            Target::SeaweedFiler | Target::SeaweedS3 => self.stores.seaweed()?.bucket.connect(),
        };
        let began = Instant::now();
        let (mut count, mut first, mut from) = (0, None, None);
        loop {
            let (names, next) = bucket.list(prefix, from).await?;
            first = first.or_else(|| Some(began.elapsed()));
            count += names.len() as u64;
            from = next;
            if from.is_none() {
                return Ok((count, first.unwrap_or_default()));
            }
        }
    }

    async fn floor(&self, workload: &Workload, floor: Floor) -> Result<Sample, Error> {
        let (bytes, dir) = (workload.work.bytes(), &self.plan.dir);
        meter::settle(bytes);
        if floor == Floor::Nginx {
            let absent = || Error::refused("nginx", "is not there");
            let nginx = self.plan.nginx.as_deref().ok_or_else(absent)?;
            let source = self.kept_source(bytes, 0);
            if !source.exists() {
                self.contents.write(0, bytes, &source)?;
                meter::settle(bytes);
            }
            let nginx = Nginx::start(nginx, dir, &dir.join("nginx")).await?;
            let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let copy = self.copy();
            discard(&copy)?;
            let pids = [nginx.pid()];
            let meter = Meter::start(&pids);
            nginx.get(&name, bytes, &copy).await?;
            let cost = meter.stop();
            content::same(&source, &copy)?;
            return Ok(sample(workload.work, cost, &Seen::default()));
        }
        let meter = Meter::start(&[]);
        match floor {
            Floor::Md5 => floor::md5(bytes),
            Floor::Loopback => floor::loopback(bytes),
            Floor::Disk | Floor::Nginx => floor::disk(bytes, dir),
        }?;
        let cost = meter.stop();
        discard(&dir.join("floor"))?;
        Ok(sample(workload.work, cost, &Seen::default()))
    }
}

/// The name under which what `work` reads is kept.
fn kept(work: Work) -> String {
    match work {
        Work::Get { size, files, .. } | Work::GetTree { size, files } => {
            format!("kept-{size}-{files}")
        }
        Work::GetFiles { size, .. } => format!("kept-{size}"),
        Work::List { files } => format!("names-{files}"),
        Work::PutFiles { .. } | Work::Put { .. } | Work::PutTree { .. } | Work::Floor(_) => {
            String::new()
        }
    }
}

fn sample(work: Work, cost: meter::Cost, seen: &Seen) -> Sample {
    let percentile = |percent| seen.times.as_ref().and_then(|times| times.percentile(percent));
    Sample {
        seconds: cost.elapsed.as_secs_f64(),
        bytes: work.bytes(),
        files: work.files(),
        client_cpu: cost.client.as_secs_f64(),
        servers_cpu: cost.servers.as_secs_f64(),
        client_kib: seen.tool_kib.unwrap_or(cost.driver_peak_kib),
        servers_kib: cost.servers_peak_kib,
        server_kib: cost.server_peak_kib,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        first_ms: seen.first.map(|first| first.as_secs_f64() * 1e3),
        ..Sample::default()
    }
}

fn length(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Waits for all of them; the sum of what their tools had resident.
async fn together<F>(each: Vec<F>) -> Result<Option<u64>, Error>
where
    F: Future<Output = Result<Option<u64>, Error>>,
{
    let peaks = try_join_all(each).await?;
    Ok(peaks.into_iter().flatten().reduce(|sum, kib| sum + kib))
}
