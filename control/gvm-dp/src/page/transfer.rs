//! `gvm-dp page write`, `read` and `verify`: files and areas.

use super::area::Area;
use super::engine::{BLOCK, DEPTH, Engine, Move, Piece};
use super::master::failure;
use super::pattern;
use crate::cli::{PageReadArgs, PageVerifyArgs, PageWriteArgs};
use crate::qp::input::Input;
use crate::qp::whole::{WholeFile, unwritable};
use common::exit::Failure;
use common::output::print;
use common::units::Size;
use indicatif::{ProgressBar, ProgressStyle};
use pages::{Buffer, EXTENT};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

/// Bytes that differ and are named.
const NAMED: usize = 8;

/// Pieces that may be there before one that is still under way.
const AHEAD: usize = 4 * DEPTH as usize;

/// Where bytes come from.
enum Source {
    File(Input),
    Pattern(u64),
}

impl Source {
    fn new(file: &Path, pattern: Option<u64>) -> Result<Self, Failure> {
        match pattern {
            Some(seed) => Ok(Self::Pattern(seed)),
            None => Input::open(file).map(Self::File),
        }
    }

    /// How many there are from here on; `None` if that is not known, or there is no end.
    fn length(&self) -> Option<u64> {
        match self {
            Self::File(input) => input.length(),
            Self::Pattern(_) => None,
        }
    }

    /// At most so many of the next bytes, which are those at a place of the area; fewer at the end.
    fn take(&mut self, at: u64, most: u32) -> Result<Vec<u8>, Failure> {
        match self {
            Self::File(input) => input.take(most.into()),
            Self::Pattern(seed) => Ok(pattern::bytes(*seed, at, most as usize)),
        }
    }

    /// What it is, for people.
    fn describe(&self) -> String {
        match self {
            Self::File(input) => input.name().to_string(),
            Self::Pattern(seed) => format!("the pattern {seed}"),
        }
    }

    /// Whether it is a file that has more bytes.
    fn goes_on(&mut self) -> Result<bool, Failure> {
        match self {
            Self::File(input) => Ok(!input.take(1)?.is_empty()),
            Self::Pattern(_) => Ok(false),
        }
    }
}

/// The bytes of an area from an offset on, and the end of those that are wanted: at most all.
fn range(area: &Area, offset: Size, size: Option<Size>) -> Result<(u64, u64), Failure> {
    let len = area.len();
    let wrong = |name, text| Failure::Setting { name, text };
    if offset.0 > len {
        return Err(wrong("offset", format!("{offset}: area {} has {len} bytes: choose at most so many", area.name)));
    }
    let rest = len - offset.0;
    match size {
        Some(size) if size.0 > rest => Err(wrong(
            "size",
            format!("{size}: area {} has {rest} bytes from byte {} on: choose at most so many", area.name, offset.0),
        )),
        Some(size) => Ok((offset.0, offset.0 + size.0)),
        None => Ok((offset.0, len)),
    }
}

/// Nothing is tried with bytes that are known to be lost.
fn refuse_lost(area: &Area, (from, end): (u64, u64)) -> Result<(), Failure> {
    let extents = (from..end).step_by(EXTENT as usize).chain(end.checked_sub(1).filter(|last| *last >= from));
    for at in extents {
        if let Some((extent, _)) = area.place(at)
            && let Some(status) = area.lost.get(&extent)
        {
            let (name, lost) = (&area.name, area.lost.len());
            let first = at / u64::from(EXTENT) * u64::from(EXTENT);
            return Err(Failure::Pages(format!(
                "area {name}: {lost} of its {} extents are lost, the first of these bytes is {}: {status}; \
                 `gvm-dp page free {name}`, and fill a new one",
                area.extents.len(),
                area.describe(first.max(from))
            )));
        }
    }
    Ok(())
}

/// A bar on a terminal; nothing elsewhere.
fn bar(total: Option<u64>, what: &'static str) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg:7} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{msg:7} {bytes} {bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

fn rate(bytes: u64, begin: Instant) -> String {
    let seconds = begin.elapsed().as_secs_f64();
    format!("in {seconds:.3} s, {:.1} MB/s", bytes as f64 / 1e6 / seconds.max(1e-9))
}

/// The bytes of a piece that are meant.
fn meant(piece: Piece, buffer: &Buffer) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; piece.len as usize];
    buffer.read(piece.skip(), &mut bytes).map_err(failure)?;
    Ok(bytes)
}

/// `gvm-dp page write`.
///
/// # Errors
/// See [`super::run`].
pub(super) fn write(args: &PageWriteArgs) -> Result<(), Failure> {
    let mut source = Source::new(&args.file, args.pattern)?;
    let area = Area::open(&args.area, &args.master, DEPTH, BLOCK)?;
    let (from, mut end) = range(&area, args.offset, args.size)?;
    let (name, room) = (&args.area, end - from);
    let too_long = |what: &str| {
        Failure::Pages(format!(
            "{what}, and area {name} has room for {room} from byte {from} on: make a larger area, or write less"
        ))
    };
    if let Some(length) = source.length() {
        if length > room {
            return Err(too_long(&format!("{} has {length} bytes", source.describe())));
        }
        end = from + length;
    }
    refuse_lost(&area, (from, if source.length().is_some() || args.pattern.is_some() { end } else { from }))?;
    let is_known = source.length().is_some() || args.pattern.is_some();
    let bar = bar(is_known.then_some(end - from), "write");
    let begin = Instant::now();
    let mut engine = Engine::new(area)?;
    let mut at = from;
    while let Some(mut piece) = Piece::next(at, end) {
        let bytes = source.take(at, piece.len)?;
        if bytes.is_empty() {
            break;
        }
        // Not more than was asked for.
        piece.len = bytes.len() as u32;
        let mut buffer = free_buffer(&mut engine, &bar)?;
        if !piece.is_whole() {
            // Its first or last word has bytes that stay as they are.
            buffer = read_first(&mut engine, piece, buffer, &bar)?;
        }
        buffer.write(piece.skip(), &bytes).map_err(failure)?;
        engine.begin(Move::Write, piece, buffer)?;
        at += u64::from(piece.len);
    }
    while !engine.is_idle() {
        written(&mut engine, &bar)?;
    }
    bar.finish_and_clear();
    if at == end && source.goes_on()? {
        return Err(too_long(&format!("{} has more bytes", source.describe())));
    }
    let bytes = at - from;
    print(&format!("{bytes} bytes written to area {} from byte {from} on {}\n", args.area, rate(bytes, begin)))
        .map(drop)
}

/// Takes writes that have ended.
fn written(engine: &mut Engine, bar: &ProgressBar) -> Result<(), Failure> {
    for (piece, buffer) in engine.wait()? {
        bar.inc(piece.len.into());
        engine.give_back(buffer);
    }
    Ok(())
}

fn free_buffer(engine: &mut Engine, bar: &ProgressBar) -> Result<Buffer, Failure> {
    loop {
        match engine.buffer() {
            Some(buffer) => return Ok(buffer),
            None => written(engine, bar)?,
        }
    }
}

/// The words of a piece as they are now. All writes end before that.
fn read_first(engine: &mut Engine, piece: Piece, buffer: Buffer, bar: &ProgressBar) -> Result<Buffer, Failure> {
    while !engine.is_idle() {
        written(engine, bar)?;
    }
    engine.begin(Move::Read, piece, buffer)?;
    let mut found = engine.wait()?;
    found.pop().map(|(_, buffer)| buffer).ok_or_else(|| Failure::Internal("a read has not ended".to_owned()))
}

/// Where the bytes of an area go.
enum Sink {
    Stdout,
    File(WholeFile),
}

impl Sink {
    /// Takes bytes. Returns whether the reader still reads.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::File(file) => file.write(bytes).map(|()| true),
            Self::Stdout => match stdio::out::write(bytes) {
                Ok(()) => Ok(true),
                // As in `gvm-dp page read NAME | head -c 100`.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(unwritable(Path::new("the standard output"), &error)),
            },
        }
    }
}

/// `gvm-dp page read`.
///
/// # Errors
/// See [`super::run`].
pub(super) fn read(args: &PageReadArgs) -> Result<(), Failure> {
    let is_stdout = args.file == Path::new("-");
    if is_stdout && stdio::out::is_terminal() {
        return Err(Failure::Usage(
            "the bytes of an area are no text for a terminal: name a FILE, or a pipe as in `| xxd | less`".to_owned(),
        ));
    }
    let mut sink = if is_stdout { Sink::Stdout } else { Sink::File(WholeFile::prepare(&args.file)?) };
    let area = Area::open(&args.area, &args.master, DEPTH, BLOCK)?;
    let (from, end) = range(&area, args.offset, args.size)?;
    refuse_lost(&area, (from, end))?;
    if let Sink::File(file) = &sink {
        file.reserve(end - from)?;
    }
    let bar = bar(Some(end - from), "read");
    let begin = Instant::now();
    let mut engine = Engine::new(area)?;
    let (mut asked, mut given, mut there) = (from, from, BTreeMap::<u64, Vec<u8>>::new());
    while given < end {
        while there.len() < AHEAD
            && let Some(piece) = Piece::next(asked, end)
            && let Some(buffer) = engine.buffer()
        {
            engine.begin(Move::Read, piece, buffer)?;
            asked += u64::from(piece.len);
        }
        for (piece, buffer) in engine.wait()? {
            there.insert(piece.at, meant(piece, &buffer)?);
            engine.give_back(buffer);
        }
        while let Some(bytes) = there.remove(&given) {
            if !sink.take(&bytes)? {
                return Ok(());
            }
            given += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
        }
    }
    bar.finish_and_clear();
    let Sink::File(file) = sink else { return Ok(()) };
    file.finish()?;
    let (bytes, name) = (end - from, args.file.display());
    print(&format!("{bytes} bytes of area {} read into {name} {}\n", args.area, rate(bytes, begin))).map(drop)
}

/// What differs.
#[derive(Debug, Default)]
struct Differences {
    count: u64,
    /// The first ones: what was expected, and what was found.
    first: BTreeMap<u64, (u8, u8)>,
}

impl Differences {
    fn compare(&mut self, at: u64, expected: &[u8], found: &[u8]) {
        if expected == found {
            return;
        }
        for ((at, expected), found) in
            (at..).zip(expected).zip(found).filter(|((_, expected), found)| expected != found)
        {
            self.count += 1;
            self.first.insert(at, (*expected, *found));
            if self.first.len() > NAMED {
                self.first.pop_last();
            }
        }
    }

    fn describe(&self, area: &Area) -> String {
        let each = |(at, (expected, found)): (&u64, &(u8, u8))| {
            format!("{} is {found:#04x} and not {expected:#04x}", area.describe(*at))
        };
        let mut text = self.first.iter().map(each).collect::<Vec<_>>().join(", ");
        if self.count > self.first.len() as u64 {
            text.push_str(", ...");
        }
        text
    }
}

/// `gvm-dp page verify`.
///
/// # Errors
/// See [`super::run`].
pub(super) fn verify(args: &PageVerifyArgs) -> Result<(), Failure> {
    let mut source = Source::new(&args.file, args.pattern)?;
    let area = Area::open(&args.area, &args.master, DEPTH, BLOCK)?;
    let (from, mut end) = range(&area, args.offset, args.size)?;
    let total = match source.length() {
        Some(length) => Some(length.min(end - from)),
        None => (args.pattern.is_some() || args.size.is_some()).then_some(end - from),
    };
    refuse_lost(&area, (from, from + total.unwrap_or(0)))?;
    let bar = bar(total, "verify");
    let begin = Instant::now();
    let mut engine = Engine::new(area)?;
    let (mut at, mut expected, mut differences) = (from, BTreeMap::<u64, Vec<u8>>::new(), Differences::default());
    loop {
        while let Some(mut piece) = Piece::next(at, end)
            && let Some(buffer) = engine.buffer()
        {
            let bytes = source.take(at, piece.len)?;
            if bytes.is_empty() {
                engine.give_back(buffer);
                end = at;
                break;
            }
            // Not more than was asked for.
            piece.len = bytes.len() as u32;
            expected.insert(at, bytes);
            engine.begin(Move::Read, piece, buffer)?;
            at += u64::from(piece.len);
        }
        if engine.is_idle() {
            break;
        }
        for (piece, buffer) in engine.wait()? {
            differences.compare(piece.at, &expected.remove(&piece.at).unwrap_or_default(), &meant(piece, &buffer)?);
            bar.inc(piece.len.into());
            engine.give_back(buffer);
        }
    }
    bar.finish_and_clear();
    let (area, what, bytes) = (&engine.area, source.describe(), at - from);
    if differences.count > 0 {
        return Err(Failure::Pages(format!(
            "area {}: {} of {bytes} bytes are not those of {what}: {}",
            area.name,
            differences.count,
            differences.describe(area)
        )));
    }
    match args.size {
        Some(size) if bytes < size.0 => Err(Failure::Pages(format!("{what} has {bytes} bytes, and not {}", size.0))),
        None if source.goes_on()? => Err(Failure::Pages(format!(
            "{what} has more than the {bytes} bytes that area {} has from byte {from} on; those are equal",
            area.name
        ))),
        _ => {
            let (name, rate) = (&area.name, rate(bytes, begin));
            print(&format!("{bytes} bytes of area {name} from byte {from} on are those of {what}; {rate}\n")).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differences_are_kept_in_whatever_order_they_are_found() {
        let mut differences = Differences::default();
        differences.compare(100, &[1; 20], &[2; 20]);
        differences.compare(0, &[1, 2, 3], &[1, 9, 3]);
        differences.compare(50, &[7; 4], &[7; 4]);
        assert_eq!(differences.count, 21);
        let places: Vec<u64> = differences.first.keys().copied().collect();
        assert_eq!(places, [1, 100, 101, 102, 103, 104, 105, 106]);
        assert_eq!(differences.first[&1], (2, 9));
    }
}
