//! The disk beside another server of NBD, `nbdkit memory`: the same requests have the same answers.

use crate::client::*;
use crate::life::bytes;
use crate::support::{Folder, Running, Wants, is_installed, until};
use proptest::prelude::*;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

const SIZE: u64 = 8 << 20;

struct Other {
    child: Child,
    folder: Folder,
}

impl Other {
    fn new() -> Self {
        let folder = Folder::new();
        let mut command = Command::new("nbdkit");
        command.arg("-f").arg("-U").arg(folder.0.join("nbd")).args(["memory", &format!("size={SIZE}")]);
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let this = Self { child, folder };
        until("nbdkit listens", || UnixStream::connect(this.folder.0.join("nbd")).is_ok());
        this
    }

    fn stream(&self) -> UnixStream {
        UnixStream::connect(self.folder.0.join("nbd")).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write(u64, u32, u16),
    Zeros(u64, u32),
    Trim(u64, u32),
    Read(u64, u32),
    Beyond(u16),
    /// The connection ends in the middle of a WRITE, with READs under way.
    Cut(u64, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let place = (prop_oneof![0u64..64, 4064u64..4128, 0u64..16_000], prop_oneof![1u32..40, 1u32..380]);
    (place, 0u8..12, 0u16..2).prop_map(|((sector, count), kind, fua)| {
        let (at, len) = (sector * 512, count * 512);
        match kind {
            0..4 => Act::Write(at, len, fua),
            4 | 5 => Act::Zeros(at, len),
            // Parts of blocks may be trimmed or not.
            6 => Act::Trim(at / 4096 * 4096, len.next_multiple_of(4096)),
            7 => Act::Beyond([READ, WRITE, TRIM, WRITE_ZEROES][count as usize % 4]),
            8 => Act::Cut(at, len),
            _ => Act::Read(at, len),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn the_answers_are_those_of_nbdkit(
        acts in proptest::collection::vec(act(), 1..60), structured in any::<bool>()) {
        if !is_installed("nbdkit") {
            return Ok(());
        }
        let (disk, other) = (Running::new(Wants { size: SIZE, ..Wants::default() }), Other::new());
        let mut clients = [disk.stream(), other.stream()].map(|stream| NbdClient::new(stream, structured));
        let same = |clients: &mut [NbdClient; 2], kind, flags, at, len, data: &[u8]| {
            let [ours, theirs] = clients.each_mut().map(|client| {
                let cookie = client.send(kind, flags, at, len, data);
                client.wait(cookie)
            });
            ours.error == theirs.error && (ours.error != 0 || ours.data == theirs.data)
        };
        for (turn, act) in acts.into_iter().enumerate() {
            let shown = act.clone();
            let held = match act {
                Act::Write(at, len, fua) => {
                    same(&mut clients, WRITE, fua, at, len, &bytes(turn as u64, len as usize))
                }
                Act::Zeros(at, len) => same(&mut clients, WRITE_ZEROES, 0, at, len, &[]),
                Act::Trim(at, len) => same(&mut clients, TRIM, 0, at, len.min((SIZE - at) as u32), &[]),
                Act::Read(at, len) => same(&mut clients, READ, 0, at, len, &[]),
                Act::Beyond(kind) => {
                    let data = if kind == WRITE { bytes(1, 8192) } else { Vec::new() };
                    same(&mut clients, kind, 0, SIZE - 4096, 8192, &data)
                }
                Act::Cut(at, len) => {
                    let data = bytes(turn as u64, len as usize);
                    // Only ours: nbdkit 1.32 sometimes aborts when a connection ends with an answer under way
                    // (connections.c, "Assertion `sock >= 0' failed").
                    let [ours, _] = &mut clients;
                    ours.send(READ, 0, at, len, &[]);
                    let head = NbdClient::head(WRITE, 0, 77, at, len);
                    ours.stream.write_all(&head).unwrap();
                    ours.stream.write_all(&data[..data.len() / 2]).unwrap();
                    *ours = NbdClient::new(disk.stream(), structured);
                    // Nobody knows what of it was written: both get it once more. What was under way has ended then.
                    until("the connection that was cut is gone", || disk.counters().connections.get() == 1);
                    same(&mut clients, WRITE, 0, at, len, &data)
                }
            };
            prop_assert!(held, "{:?}", shown);
        }
        for at in (0..SIZE).step_by(1 << 20) {
            prop_assert!(same(&mut clients, READ, 0, at, 1 << 20, &[]));
        }
    }
}
