//! One piece of work: what has to be there before it, what it costs, and whether it was right.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::content::{self, Contents, name_in_tree};
use crate::error::Error;
use crate::floor::{self, Nginx};
use crate::lane::Lane;
use crate::local::{self, discard};
use crate::meter::{self, Meter};
use crate::results::Sample;
use crate::small::{self, Task, Times};
use crate::target::{Stores, Target};
use crate::wait::within;
use crate::work::{Floor, Work, Workload};

/// How many small files are under way where they are only set up, or a folder is moved.
const CROWD: u64 = 64;

/// Limit for one piece of work.
const WORK_LIMIT: Duration = Duration::from_secs(600);

/// The stores that run, and the local files.
pub(crate) struct Site {
    pub(crate) stores: Stores,
    /// On the disk where the stores' data is.
    dir: PathBuf,
    nginx: Option<PathBuf>,
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

impl Site {
    /// With local files in `dir`.
    pub(crate) fn new(stores: Stores, dir: PathBuf, nginx: Option<PathBuf>) -> Result<Self, Error> {
        Ok(Self { stores, dir, nginx, contents: Contents::fresh()?, stored: HashSet::new() })
    }

    // ---- Local files

    /// The local file `number` of `size` bytes.
    fn source(&self, size: u64, number: u64) -> PathBuf {
        self.dir.join(format!("source-{size}-{number}"))
    }

    /// The local folder of so many files of `size` bytes.
    fn tree(&self, size: u64, files: u64) -> PathBuf {
        self.dir.join(format!("tree-{size}-{files}"))
    }

    /// Where files are read to.
    fn copy(&self) -> PathBuf {
        self.dir.join("copy")
    }

    /// New bytes for work that stores files from disk.
    pub(crate) fn make_sources(&mut self, work: Work) -> Result<(), Error> {
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
    pub(crate) async fn prepare(&mut self, target: Target, work: Work) -> Result<(), Error> {
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
                    let put = stores.put_file(target, &source, &name, WORK_LIMIT);
                    within(WORK_LIMIT, &name, put).await?;
                }
            }
            Work::Get { size, files, .. } | Work::GetTree { size, files } => {
                self.fill(target, &name, files, Task::Put(contents, length(size))).await?;
            }
            Work::List { files } => {
                self.fill(target, &name, files, Task::Put(contents, 1)).await?;
            }
            _ => return Ok(()),
        }
        self.stored.insert(key);
        Ok(())
    }

    async fn fill(&self, target: Target, name: &str, files: u64, task: Task) -> Result<(), Error> {
        let lanes = small::lanes(&self.stores, target, CROWD.min(files)).await?;
        within(WORK_LIMIT, name, small::each(lanes, name, files, task)).await.map(drop)
    }

    fn kept_source(&self, size: u64, number: u64) -> PathBuf {
        self.dir.join(format!("kept-{size}-{number}"))
    }

    // ---- One piece of work

    /// Does it, and checks what was read.
    pub(crate) async fn once(
        &self,
        workload: &Workload,
        target: Target,
        round: u32,
    ) -> Result<Sample, Error> {
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
        let lanes = small::lanes(stores, target, lanes_of(work, target)).await?;
        let meter = Meter::start(&pids);
        let work_done = self.perform(work, target, &name, lanes);
        let seen = within(WORK_LIMIT, &workload.name, work_done).await?;
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

    async fn perform(
        &self,
        work: Work,
        target: Target,
        name: &str,
        lanes: Vec<Lane>,
    ) -> Result<Seen, Error> {
        let stores = &self.stores;
        let mut seen = Seen::default();
        match work {
            Work::PutFiles { count, size } => {
                let each = (0..count).map(|number| async move {
                    let source = self.source(size, number);
                    let name = format!("{name}/{number}");
                    stores.put_file(target, &source, &name, WORK_LIMIT).await
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
                    stores.get_file(target, from, to, WORK_LIMIT).await
                });
                seen.tool_kib = together(each.collect()).await?;
            }
            Work::Put { size, files, .. } => {
                let task = Task::Put(Contents::fresh()?, length(size));
                seen.times = Some(small::each(lanes, name, files, task).await?);
            }
            Work::Get { size, files, .. } => {
                seen.times = Some(small::each(lanes, &kept(work), files, Task::Get(size)).await?);
            }
            Work::PutTree { size, files } => {
                let tree = self.tree(size, files);
                seen.tool_kib = self.put_tree(target, &tree, name, (files, lanes)).await?;
            }
            Work::GetTree { files, .. } => {
                seen.tool_kib = self.get_tree(target, &kept(work), (files, lanes)).await?;
            }
            Work::List { files } => {
                for mut lane in lanes {
                    let (count, first) = lane.list(&kept(work)).await?;
                    if count != files {
                        return Err(Error::refused(
                            "the list",
                            format!("{count} of {files} files"),
                        ));
                    }
                    seen.first = Some(first);
                }
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
        (files, lanes): (u64, Vec<Lane>),
    ) -> Result<Option<u64>, Error> {
        match target {
            Target::Dfs => {
                let put = |ctl: &mut std::process::Command| {
                    ctl.args(["put", "-r"]).arg(tree).arg(name);
                };
                self.stores.dfs()?.ctl(put, WORK_LIMIT).await.map(Some)
            }
            Target::SeaweedFiler => {
                self.stores.seaweed()?.filer.copy(tree, name, WORK_LIMIT).await.map(Some)
            }
            Target::SeaweedS3 | Target::Garage => {
                let task = Task::PutFrom(Arc::from(tree));
                small::each(lanes, name, files, task).await?;
                Ok(None)
            }
        }
    }

    async fn get_tree(
        &self,
        target: Target,
        name: &str,
        (files, lanes): (u64, Vec<Lane>),
    ) -> Result<Option<u64>, Error> {
        let copy = self.copy();
        if target == Target::Dfs {
            let get = |ctl: &mut std::process::Command| {
                ctl.args(["get", "-r", name]).arg(copy);
            };
            return self.stores.dfs()?.ctl(get, WORK_LIMIT).await.map(Some);
        }
        let task = Task::GetTo(Arc::from(copy));
        small::each(lanes, name, files, task).await?;
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

    /// Measures what the machine can do.
    pub(crate) async fn floor(&self, work: Work, floor: Floor) -> Result<Sample, Error> {
        let (bytes, dir) = (work.bytes(), &self.dir);
        meter::settle(bytes);
        if floor == Floor::Nginx {
            let absent = || Error::refused("nginx", "is not there");
            let nginx = self.nginx.as_deref().ok_or_else(absent)?;
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
            return Ok(sample(work, cost, &Seen::default()));
        }
        let path = dir.join("floor");
        let scratch = path.clone();
        let meter = Meter::start(&[]);
        // On a thread of its own: signals are heard meanwhile.
        let done = tokio::task::spawn_blocking(move || match floor {
            Floor::Md5 => floor::md5(bytes),
            Floor::Loopback => floor::loopback(bytes),
            Floor::Disk | Floor::Nginx => floor::disk(bytes, &scratch),
        });
        done.await.map_err(|error| Error::refused("this machine", error))??;
        let cost = meter.stop();
        discard(&path)?;
        Ok(sample(work, cost, &Seen::default()))
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

/// How many lanes work needs that does not run a tool.
fn lanes_of(work: Work, target: Target) -> u64 {
    match (work, target) {
        (Work::Put { files, at_once, .. } | Work::Get { files, at_once, .. }, _) => {
            at_once.min(files)
        }
        (Work::PutTree { .. }, Target::Dfs | Target::SeaweedFiler) => 0,
        (Work::GetTree { .. }, Target::Dfs) => 0,
        (Work::PutTree { files, .. } | Work::GetTree { files, .. }, _) => CROWD.min(files),
        (Work::List { .. }, _) => 1,
        (Work::PutFiles { .. } | Work::GetFiles { .. } | Work::Floor(_), _) => 0,
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
