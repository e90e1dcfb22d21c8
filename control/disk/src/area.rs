//! The areas of a disk that outlives its process: one has what was written, the other one the map of the disk.

use crate::ending::ending;
use crate::store::MAP_REQUESTS;
use blockmap::{BlockMap, EXTENT, Ending, MapKeeper, MapReader, MapRefusal, NoMap, RestoredMap};
use common::exit::Failure;
use common::units::Size;
use pages::{AreaOptions, Client, ClientOptions, Ended, Extent, ExtentNotice, PagesError, Work};
use std::path::Path;
use std::sync::Arc;

/// What stands behind the name of a disk's area in the name of the area that has its map.
pub const MAP_SUFFIX: &str = ".map";

/// Bytes of buffers for the map.
const MAP_BUFFERS: u64 = 4 << 20;

/// Bytes of one READ of the map.
const PIECE: usize = 256 << 10;

/// Why the disk in an area cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskAreaError {
    /// The master refuses, or is not there.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// It is a disk of another size.
    #[error(
        "area {area} has a disk of {has}, not of {}: name that --size, or remove the disk: {}",
        Size(*.wanted),
        removal(.area)
    )]
    Size {
        /// The area.
        area: String,
        /// The size that the disk has.
        has: Size,
        /// The size that was asked for.
        wanted: u64,
    },
    /// Its map is gone.
    #[error(
        "the map of the disk in area {area} is lost with the slave that had it: remove the disk: {}",
        removal(.area)
    )]
    Lost {
        /// The area.
        area: String,
    },
    /// There is something else.
    #[error(
        "area {area} has extents, and area {area}.map has no map of a disk: name another area, or remove these: {}",
        removal(.area)
    )]
    NoDisk {
        /// The area.
        area: String,
    },
    /// The slave that has its map does not answer.
    #[error(
        "the slave that has the map of the disk in area {area} does not answer: see the log of the master, and \
         try again"
    )]
    NoAnswer {
        /// The area.
        area: String,
    },
    /// Its map is of another version.
    #[error(
        "the map of the disk in area {area} has version {version}, and this program knows version 1: start the release \
         that made it, or remove the disk: {}",
        removal(.area)
    )]
    Version {
        /// The area.
        area: String,
        /// The version.
        version: u32,
    },
    /// Its map says what no map can say.
    #[error("the map of the disk in area {area} is damaged: remove the disk: {}", removal(.area))]
    Damaged {
        /// The area.
        area: String,
    },
}

/// The commands that remove a disk.
fn removal(area: &str) -> String {
    format!("`gvm-dp page free {area}` and `gvm-dp page free {area}{MAP_SUFFIX}`")
}

impl From<DiskAreaError> for Failure {
    fn from(error: DiskAreaError) -> Self {
        let text = error.to_string();
        match error {
            DiskAreaError::Pages(error) if error.has_no_server() => Self::Client(text),
            DiskAreaError::Size { .. } => Self::Usage(text),
            _ => Self::Pages(text),
        }
    }
}

/// The connections of a disk to its master.
#[derive(Debug)]
pub struct DiskChannels {
    /// For what clients write.
    pub data: Client,
    /// For the map, if the disk outlives its process.
    pub map: Option<Client>,
}

/// What an area says about its disk.
#[derive(Debug)]
pub struct KeptDisk {
    /// The map.
    pub map: RestoredMap,
    /// There was no disk in the area.
    pub is_new: bool,
}

/// How a disk connects to its master.
#[derive(Clone, Debug)]
pub struct DiskConnector {
    /// For what clients write.
    pub options: ClientOptions,
    /// The area of the disk, if it outlives its process.
    pub area: Option<String>,
}

impl DiskConnector {
    /// Connects to the master at a socket.
    ///
    /// # Errors
    /// Those of [`Client::connect`].
    pub fn connect(&self, path: &Path) -> Result<DiskChannels, PagesError> {
        let Some(area) = &self.area else {
            return Ok(DiskChannels { data: Client::connect(path, &self.options)?, map: None });
        };
        let with =
            |options: ClientOptions, area: String| ClientOptions { area: Some(AreaOptions::any(area)), ..options };
        let data = Client::connect(path, &with(self.options.clone(), area.clone()))?;
        let options = ClientOptions { requests: MAP_REQUESTS, buffers: MAP_BUFFERS, ..self.options.clone() };
        let map = Client::connect(path, &with(options, format!("{area}{MAP_SUFFIX}")))?;
        Ok(DiskChannels { data, map: Some(map) })
    }
}

/// How a request for the map ended, if not well.
enum MapTrouble {
    Lost,
    NoAnswer,
    Pages(PagesError),
}

impl MapTrouble {
    fn of(self, area: &str) -> DiskAreaError {
        let area = area.to_owned();
        match self {
            Self::Lost => DiskAreaError::Lost { area },
            Self::NoAnswer => DiskAreaError::NoAnswer { area },
            Self::Pages(error) => DiskAreaError::Pages(error),
        }
    }
}

impl From<PagesError> for MapTrouble {
    fn from(error: PagesError) -> Self {
        Self::Pages(error)
    }
}

/// Does one request, and waits for its end.
fn done(client: &mut Client, work: Work, notices: &mut Vec<ExtentNotice>) -> Result<Ended, MapTrouble> {
    let (mut batch, mut ended) = (vec![work], Vec::new());
    client.post(&mut batch)?;
    while ended.is_empty() {
        client.wait(&mut ended, None)?;
        if client.has_notices() {
            notices.extend(client.notices()?);
        }
    }
    let end = ended.pop().ok_or(MapTrouble::NoAnswer)?;
    match ending(end.status) {
        Ending::Done => Ok(end),
        Ending::Lost => Err(MapTrouble::Lost),
        Ending::Failed => Err(MapTrouble::NoAnswer),
    }
}

/// All bytes of an extent.
fn read(client: &mut Client, extent: Extent, notices: &mut Vec<ExtentNotice>) -> Result<Vec<u8>, MapTrouble> {
    let mut bytes = vec![0; EXTENT as usize];
    let mut buffer = client.buffer(PIECE)?;
    for (at, piece) in (0..).step_by(PIECE).zip(bytes.chunks_mut(PIECE)) {
        buffer = done(client, Work::read(extent, at, buffer), notices)?.buffer;
        buffer.read(0, piece)?;
    }
    Ok(bytes)
}

/// Begins the map of a new disk. No extent is allocated for what clients write before that: extents without a map are
/// not those of a disk.
fn create(client: &mut Client, keeper: &mut MapKeeper, size: u64) -> Result<(), MapTrouble> {
    let map = BlockMap::new(size, Arc::default());
    keeper.begin();
    while keeper.take_wanted() {
        let extents = client.allocate(1, false)?;
        keeper.allocated(extents.first().map(|extent| extent.number()).ok_or(MapRefusal::NoSpace));
    }
    while let Some(write) = keeper.next_write(&map) {
        let mut buffer = client.buffer(write.bytes.len())?;
        buffer.write(0, &write.bytes)?;
        let work = Work::write(Extent::from_number(write.extent), write.offset, buffer);
        done(client, work, &mut Vec::new())?;
        keeper.wrote(&write, Ending::Done);
    }
    Ok(())
}

/// Reads the map of the disk of this size in an area, or begins one. Returns whether the disk is new.
///
/// # Errors
/// [`DiskAreaError`].
pub fn restore(channels: &mut DiskChannels, area: &str, size: u64) -> Result<Option<KeptDisk>, DiskAreaError> {
    let Some(client) = &mut channels.map else { return Ok(None) };
    let named = || area.to_owned();
    let refused = |no_map: NoMap| match no_map {
        NoMap::Size(has) => DiskAreaError::Size { area: named(), has: Size(has), wanted: size },
        NoMap::Version(version) => DiskAreaError::Version { area: named(), version },
        NoMap::Lost => DiskAreaError::Lost { area: named() },
        NoMap::Broken => DiskAreaError::Damaged { area: named() },
    };
    let mut notices = client.notices()?;
    let mut reader = MapReader::new(size);
    for extent in client.extents().to_vec() {
        let is_it =
            |notice: &ExtentNotice| matches!(notice, ExtentNotice::Lost { extents, .. } if extents.contains(&extent));
        if notices.iter().any(is_it) {
            reader.take_lost(extent.number());
            continue;
        }
        match read(client, extent, &mut notices) {
            Ok(bytes) => reader.take(extent.number(), &bytes).map_err(refused)?,
            Err(MapTrouble::Lost) => reader.take_lost(extent.number()),
            Err(trouble) => return Err(trouble.of(area)),
        }
    }
    let is_new = reader.is_empty();
    if is_new && !channels.data.extents().is_empty() {
        return Err(DiskAreaError::NoDisk { area: named() });
    }
    let mut map = reader.finish().map_err(refused)?;
    if is_new {
        create(client, &mut map.keeper, size).map_err(|trouble| trouble.of(area))?;
    }
    for notice in notices {
        let (ExtentNotice::Recalled { extents, .. } | ExtentNotice::Lost { extents, .. }) = notice;
        for extent in extents {
            map.keeper.replace(extent.number());
        }
    }
    Ok(Some(KeptDisk { map, is_new }))
}
