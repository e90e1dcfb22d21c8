//! Areas: made, opened, listed, freed.

use super::master::{failure, socket};
use crate::cli::{PageAllocArgs, PageFreeArgs, PageListArgs, PageMasterArgs};
use client::table::TextTable;
use common::exit::Failure;
use common::output::print;
use indicatif::{ProgressBar, ProgressStyle};
use pages::{AreaInfo, AreaOptions, AreaState, Client, ClientOptions, EXTENT, Extent, ExtentNotice, Status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Extents of one allocation.
const AT_ONCE: u64 = 64;

/// How long an answer of the master may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An area that this process has.
pub(super) struct Area {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) extents: Vec<Extent>,
    /// Those that are lost, and why.
    pub(super) lost: BTreeMap<Extent, Status>,
}

impl Area {
    /// Takes an area, with buffers for requests: so many, of so many bytes each.
    pub(super) fn open(name: &str, master: &PageMasterArgs, depth: u32, block: u32) -> Result<Self, Failure> {
        let mut client = connect(master, AreaOptions::existing(name), depth, block)?;
        let extents = client.extents().to_vec();
        let mut lost = BTreeMap::new();
        for notice in client.notices().map_err(failure)? {
            if let ExtentNotice::Lost { status, extents } = notice {
                lost.extend(extents.into_iter().map(|extent| (extent, status)));
            }
        }
        Ok(Self { client, name: name.to_owned(), extents, lost })
    }

    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        self.extents.len() as u64 * u64::from(EXTENT)
    }

    /// The extent that has a byte, and the byte in it.
    pub(super) fn place(&self, at: u64) -> Option<(Extent, u32)> {
        let number = usize::try_from(at / u64::from(EXTENT)).ok()?;
        Some((*self.extents.get(number)?, (at % u64::from(EXTENT)) as u32))
    }

    /// Where a byte is, for people.
    pub(super) fn describe(&self, at: u64) -> String {
        let number = at / u64::from(EXTENT);
        let (extent, byte) = self.place(at).unwrap_or((Extent::from_number(0), 0));
        format!("byte {at} (byte {byte} of extent {number} of {}, {:#x})", self.extents.len(), extent.number())
    }
}

fn connect(master: &PageMasterArgs, area: AreaOptions, depth: u32, block: u32) -> Result<Client, Failure> {
    let options = ClientOptions {
        requests: depth.next_power_of_two().max(2),
        buffers: (u64::from(depth) * u64::from(block)).next_multiple_of(4096),
        name: "gvm-dp page".to_owned(),
        patience: PATIENCE,
        area: Some(area),
        ..ClientOptions::default()
    };
    Client::connect(socket(master), &options).map_err(failure)
}

/// `gvm-dp page alloc`.
///
/// # Errors
/// See [`super::run`]. Nothing is left of an area that did not get all of its memory.
pub(super) fn alloc(args: &PageAllocArgs) -> Result<(), Failure> {
    let count = args.size.0.div_ceil(EXTENT.into());
    if count == 0 {
        return Err(Failure::Usage(format!("{}: an area has at least one extent of 2M: choose 2M or more", args.size)));
    }
    let mut client = connect(&args.master, AreaOptions::new(args.area.as_str()), 1, 4096)?;
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{msg:7} [{bar:40}] {pos}/{len} extents {eta}") {
        bar.set_style(style);
    }
    bar.set_message("alloc");
    let mut left = count;
    while left > 0 {
        let more = left.min(AT_ONCE);
        if let Err(error) = client.allocate(more as u32, false) {
            bar.finish_and_clear();
            let got = count - left;
            // Without it the area would stay, and be too small.
            client.remove_area().map_err(failure)?;
            let Failure::Pages(text) = failure(error) else {
                return Err(Failure::Internal("an allocation failed, and not for pages".to_owned()));
            };
            return Err(Failure::Pages(format!("{got} of {count} extents were there, and are freed: {text}")));
        }
        left -= more;
        bar.inc(more);
    }
    bar.finish_and_clear();
    print(&format!("area {}: {count} extents of 2 MiB, {} MiB\n", args.area, count * 2)).map(drop)
}

/// `gvm-dp page free`.
///
/// # Errors
/// See [`super::run`].
pub(super) fn free(args: &PageFreeArgs) -> Result<(), Failure> {
    let mut area = Area::open(&args.area, &args.master, 1, 4096)?;
    area.client.remove_area().map_err(failure)?;
    area.client.free(&area.extents).map_err(failure)?;
    let (count, lost) = (area.extents.len(), area.lost.len());
    print(&format!("area {}: {count} extents freed, {lost} of them were lost\n", args.area)).map(drop)
}

/// `gvm-dp page list`.
///
/// # Errors
/// See [`super::run`].
pub(super) fn list(args: &PageListArgs) -> Result<(), Failure> {
    let areas = pages::areas(socket(&args.master), PATIENCE).map_err(failure)?;
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let text = if args.json {
        format!("{:#}\n", Value::from_iter(areas.iter().map(|area| report(area, &users))))
    } else if areas.is_empty() {
        "there are no areas\n".to_owned()
    } else {
        let mut table = TextTable::new(&["area", "user", "size", "lost", "state", "pid"], &[0, 1, 4]);
        for area in &areas {
            table.row(vec![
                area.name.to_string(),
                user(area.user, &users),
                format!("{}M", u64::from(area.extents) * 2),
                format!("{}M", u64::from(area.lost) * 2),
                area.state.to_string(),
                if area.pid == 0 { String::new() } else { area.pid.to_string() },
            ]);
        }
        table.text()
    };
    print(&text).map(drop)
}

fn report(area: &AreaInfo, users: &str) -> Value {
    let bytes = |extents: u32| u64::from(extents) * u64::from(EXTENT);
    json!({
        "area": area.name.as_str(), "user": user(area.user, users), "uid": area.user, "bytes": bytes(area.extents),
        "lost_bytes": bytes(area.lost), "state": area.state.name(), "in_use": area.state != AreaState::Parked,
        "pid": (area.pid != 0).then_some(area.pid),
    })
}

/// The name of a user in the text of `/etc/passwd`, or the number.
fn user(number: u32, users: &str) -> String {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    };
    users.lines().find_map(of_line).unwrap_or_else(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_if_the_host_knows_it() {
        let users = "root:x:0:0:root:/root:/bin/sh\nrubbish\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!([0, 1000, 1001].map(|number| user(number, users)), ["root", "ada", "1001"]);
    }
}
