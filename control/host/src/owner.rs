//! Which process uses a resource that we want: an interface through its XDP program, or a device through a file.

use common::exit::Owner;
use std::path::Path;

/// The process of this network namespace that attached its XDP program to an interface by a link. `None` for a program
/// that was attached without a link (as `ip link set dev ... xdp` does), and if this user may not look at its process.
pub fn of_xdp(interface: u32) -> Option<Owner> {
    let here = std::fs::read_link("/proc/self/ns/net").ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let process = Path::new("/proc").join(pid.to_string());
        if std::fs::read_link(process.join("ns/net")).ok()? != here {
            return None;
        }
        let descriptors = std::fs::read_dir(process.join("fdinfo")).ok()?.flatten();
        let text = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path()).ok();
        let program = descriptors.filter_map(text).find_map(|text| program(&text, interface))?;
        Some(Owner { pid, name: name_of(&process), program })
    })
}

/// A process that has a file open: its id and its name. `None` if there is none, or if this user may not look at it.
pub fn of_file(file: &Path) -> Option<(u32, String)> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let own = std::process::id();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).filter(|pid| *pid != own).find_map(
        |pid| {
            let process = Path::new("/proc").join(pid.to_string());
            let mut descriptors = std::fs::read_dir(process.join("fd")).ok()?.flatten();
            descriptors.find(|entry| std::fs::read_link(entry.path()).is_ok_and(|open| open == file))?;
            Some((pid, name_of(&process)))
        },
    )
}

fn name_of(process: &Path) -> String {
    // Every process chooses its own name.
    common::plain::line(std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim()).into_owned()
}

/// The id of the program, if this text of the kernel describes the link of a program to the interface.
fn program(fdinfo: &str, interface: u32) -> Option<String> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let matches = field("link_type:") == Some("xdp") && field("ifindex:")?.parse() == Ok(interface);
    matches.then(|| field("prog_id:").unwrap_or("?").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_file_open_is_found() {
        let directory = std::env::temp_dir().join(format!("gvm-dp-owner-{}", std::process::id()));
        std::fs::write(&directory, "").unwrap();
        let file = directory.canonicalize().unwrap();
        assert_eq!(of_file(&file), None);
        let held = std::fs::File::open(&file).unwrap();
        // This process does not count as another process; a child that has the file open does.
        assert_eq!(of_file(&file), None);
        let mut child = std::process::Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        assert_eq!(of_file(&file), Some((child.id(), "sleep".to_owned())));
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_link_names_its_program_and_interface() {
        let text =
            "pos:\t0\nflags:\t02000000\nlink_type:\txdp\nlink_id:\t3\nprog_tag:\ta0\nprog_id:\t21\nifindex:\t9\n";
        assert_eq!(program(text, 9).as_deref(), Some("21"));
        assert_eq!(program(text, 8), None);
        assert_eq!(program(&text.replace("xdp", "tcx"), 9), None);
        assert_eq!(program("pos:\t0\n", 9), None);
    }
}
