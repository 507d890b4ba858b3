//! What is measured: a store, spoken to by one of its clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::dfs::Dfs;
use crate::error::Error;
use crate::garage::Garage;
use crate::lane::Lane;
use crate::seaweed::Seaweed;

/// A store and a client of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// dfs: the library, or dfsctl.
    Dfs,
    /// SeaweedFS: HTTP to the filer, `weed filer.copy` and `weed filer.cat`.
    SeaweedFiler,
    /// SeaweedFS: S3.
    SeaweedS3,
    /// Garage: S3.
    Garage,
}

impl Target {
    pub(crate) const ALL: [Self; 4] =
        [Self::Dfs, Self::SeaweedFiler, Self::SeaweedS3, Self::Garage];

    /// Its name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dfs => "dfs",
            Self::SeaweedFiler => "seaweedfs filer",
            Self::SeaweedS3 => "seaweedfs s3",
            Self::Garage => "garage s3",
        }
    }

    /// The store it belongs to, as one names it on the command line.
    pub(crate) fn store(self) -> &'static str {
        match self {
            Self::Dfs => "dfs",
            Self::SeaweedFiler | Self::SeaweedS3 => "seaweedfs",
            Self::Garage => "garage",
        }
    }
}

/// Where the programs are; what is absent is not measured.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Directory of dfsd and dfsctl.
    pub(crate) bin: PathBuf,
    pub(crate) weed: Option<PathBuf>,
    pub(crate) garage: Option<PathBuf>,
    /// Whether the peers sync what they acknowledge, which they do not by themselves.
    pub(crate) peers_fsync: bool,
}

/// The stores that run.
pub(crate) struct Stores {
    dfs: Option<Dfs>,
    seaweed: Option<Seaweed>,
    garage: Option<Garage>,
}

impl Stores {
    /// Starts the stores of these targets, with their data in `dir`.
    pub(crate) async fn start(
        targets: &[Target],
        programs: &Programs,
        dir: &Path,
    ) -> Result<Self, Error> {
        let wanted = |store: &str| targets.iter().any(|target| target.store() == store);
        let place = |store: &str| {
            let place = dir.join(store);
            fs::create_dir_all(&place).map_err(Error::file("make", &place))?;
            Ok::<_, Error>(place)
        };
        let mut stores = Self { dfs: None, seaweed: None, garage: None };
        if wanted("dfs") {
            stores.dfs = Some(Dfs::start(&programs.bin, &place("dfs")?).await?);
        }
        let fsync = programs.peers_fsync;
        if let Some(weed) = programs.weed.as_deref().filter(|_| wanted("seaweedfs")) {
            stores.seaweed = Some(Seaweed::start(weed, &place("seaweedfs")?, fsync).await?);
        }
        if let Some(garage) = programs.garage.as_deref().filter(|_| wanted("garage")) {
            stores.garage = Some(Garage::start(garage, &place("garage")?, fsync).await?);
        }
        Ok(stores)
    }

    /// The processes of a target's store.
    pub(crate) fn pids(&self, target: Target) -> Vec<u32> {
        match target {
            Target::Dfs => self.dfs.as_ref().map(Dfs::pids),
            Target::SeaweedFiler | Target::SeaweedS3 => self.seaweed.as_ref().map(Seaweed::pids),
            Target::Garage => self.garage.as_ref().map(Garage::pids),
        }
        .unwrap_or_default()
    }

    /// Kills a node of each store.
    pub(crate) async fn lose_one(&mut self) -> Result<(), Error> {
        if let Some(seaweed) = &mut self.seaweed {
            seaweed.lose_one();
        }
        if let Some(garage) = &mut self.garage {
            garage.lose_one();
        }
        match &mut self.dfs {
            Some(dfs) => dfs.lose_one().await,
            None => Ok(()),
        }
    }

    pub(crate) fn dfs(&self) -> Result<&Dfs, Error> {
        self.dfs.as_ref().ok_or_else(|| Error::refused("dfs", "does not run"))
    }

    pub(crate) fn seaweed(&self) -> Result<&Seaweed, Error> {
        self.seaweed.as_ref().ok_or_else(|| Error::refused("seaweedfs", "does not run"))
    }

    fn garage(&self) -> Result<&Garage, Error> {
        self.garage.as_ref().ok_or_else(|| Error::refused("garage", "does not run"))
    }

    /// One of several ways to store and read small files. Where clients may ask any node, the
    /// lanes are spread over those that live.
    pub(crate) fn lane(&self, target: Target, number: usize) -> Result<Lane, Error> {
        Ok(match target {
            Target::Dfs => Lane::Dfs(self.dfs()?.client()),
            Target::SeaweedFiler => Lane::Filer(self.seaweed()?.filer.connect()),
            Target::SeaweedS3 => Lane::S3(self.seaweed()?.bucket.connect(number)),
            Target::Garage => Lane::S3(self.garage()?.bucket.connect(number)),
        })
    }

    /// Stores a local file; the most memory that its tool had resident, if it ran one, in KiB.
    pub(crate) async fn put_file(
        &self,
        target: Target,
        local: &Path,
        name: &str,
        limit: Duration,
    ) -> Result<Option<u64>, Error> {
        match target {
            Target::Dfs => {
                let put = |ctl: &mut Command| {
                    ctl.arg("put").arg(local).arg(name);
                };
                self.dfs()?.ctl(put, limit).await.map(Some)
            }
            Target::SeaweedFiler => {
                // The tool takes a folder; the file keeps its own name in it.
                self.seaweed()?.filer.copy(local, name, limit).await.map(Some)
            }
            Target::SeaweedS3 => self.seaweed()?.bucket.put_file(local, name).await.map(|()| None),
            Target::Garage => self.garage()?.bucket.put_file(local, name).await.map(|()| None),
        }
    }

    /// Reads what [`Self::put_file`] stored from `source`, of `size` bytes.
    pub(crate) async fn get_file(
        &self,
        target: Target,
        (source, name): (&Path, &str),
        (local, size): (&Path, u64),
        limit: Duration,
    ) -> Result<Option<u64>, Error> {
        match target {
            Target::Dfs => {
                let get = |ctl: &mut Command| {
                    ctl.arg("get").arg(name).arg(local);
                };
                self.dfs()?.ctl(get, limit).await.map(Some)
            }
            Target::SeaweedFiler => {
                let name = format!("{name}/{}", base_name(source));
                self.seaweed()?.filer.cat(&name, local, limit).await.map(Some)
            }
            Target::SeaweedS3 => {
                self.seaweed()?.bucket.get_file(name, local, size).await.map(|()| None)
            }
            Target::Garage => {
                self.garage()?.bucket.get_file(name, local, size).await.map(|()| None)
            }
        }
    }

    /// Forgets a large file, for its space.
    pub(crate) async fn remove_file(
        &self,
        target: Target,
        source: &Path,
        name: &str,
    ) -> Result<(), Error> {
        let name = match target {
            Target::SeaweedFiler => format!("{name}/{}", base_name(source)),
            Target::Dfs | Target::SeaweedS3 | Target::Garage => name.to_owned(),
        };
        self.lane(target, 0)?.remove(&name).await
    }
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
