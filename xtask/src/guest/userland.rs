//! The distribution's bash and busybox in the root file system of `cargo xtask run`.
//!
//! bash is the shell on the console; busybox provides the tools that Sloth has none of its own for,
//! each a link of its name. Both are static, so they need no libraries.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::guest::addition::Addition;
use crate::packages::Packages;
use crate::paths::Paths;
use crate::say;

/// The shell on the console, in the guest.
pub const SHELL: &str = "bin/bash";
/// The multi-call binary, in the guest.
pub const BUSYBOX: &str = "bin/busybox";
/// The type of the terminal on machines with a screen.
pub const SCREEN_TERMINAL: &str = "linux";
/// Machines with less memory go without: the files would take a good part of it.
pub const LEAST_MEMORY_BYTES: u64 = 128 << 20;

/// The applets that get a name, where the guest has no tool of this name and busybox has it.
/// Left out are those that administer hardware, networks and Linux itself.
const APPLETS: &str = "ar ash awk base64 basename bc bunzip2 bzcat bzip2 cal chgrp chown clear \
    cpio crc32 cut date dc df diff dirname dos2unix du ed egrep expand expr factor fgrep find fold \
    getopt groups gunzip gzip hexdump hostname id less link logname lzcat lzma md5sum mkfifo \
    mktemp more nl nproc od paste patch pidof readlink realpath renice reset resize rev sed \
    sha1sum sha512sum shuf strings stty tac tar time timeout top tr tty uniq unix2dos unlink \
    unlzma unxz unzip uptime usleep uudecode uuencode vi watch which whoami xargs xxd xz xzcat \
    yes zcat";

/// Folders in which the host keeps descriptions of terminals.
const TERMINALS: [&str; 3] = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"];

/// Small files: the user's shell, and what it reads at first, so that `help` is the guest's tool
/// and not a command of bash's own.
pub const TEXTS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
    ("etc/profile", "enable -n help\nshopt -s checkwinsize\n"),
];

/// What is added to the root file system.
#[derive(Debug, Clone)]
pub struct Userland {
    /// The two programs, and the description of the user's terminal.
    pub additions: Vec<Addition>,
    /// Names of applets in `bin`, which are links to [`BUSYBOX`].
    pub applets: Vec<String>,
    /// The type of the user's terminal, if its description was added.
    pub terminal: Option<String>,
}

impl Userland {
    /// Gets the programs, or says why they are not there.
    pub fn find(paths: &Paths, terminal: Option<&str>) -> Option<Self> {
        Self::get(paths, terminal)
            .inspect_err(|why| {
                say!(
                    "without bash and busybox, so Sloth's own shell serves (--plain does not look \
                     for them): {why}"
                );
            })
            .ok()
    }

    /// Gets the programs, from the network if they are not there, with the description of a type of
    /// terminal, or returns why they are not available.
    pub fn get(paths: &Paths, terminal: Option<&str>) -> Result<Self, String> {
        let packages = Packages::open(paths).map_err(|error| error.to_string())?;
        let bash = packages.file("bash-static", "bin/bash-static")?;
        let busybox = packages.file("busybox-static", "bin/busybox")?;
        let applets = applets(&busybox)?;
        let mut additions = vec![Addition::new(bash, SHELL), Addition::new(busybox, BUSYBOX)];
        let description = terminal.and_then(description);
        let terminal = terminal.filter(|_| description.is_some()).map(str::to_owned);
        additions.extend(description);
        Ok(Self { additions, applets, terminal })
    }
}

/// The description of a type of terminal, where the host has it.
fn description(name: &str) -> Option<Addition> {
    let first = name.chars().next().filter(char::is_ascii_alphanumeric)?;
    let path = format!("{first}/{name}");
    let file =
        TERMINALS.iter().map(|folder| Path::new(folder).join(&path)).find(|it| it.is_file())?;
    (!name.contains('/')).then(|| Addition::new(file, &format!("lib/terminfo/{path}")))
}

/// The applets that are wanted and that this busybox has. It runs on the host as well.
fn applets(busybox: &Path) -> Result<Vec<String>, String> {
    let output = Command::new(busybox)
        .arg("--list")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", busybox.display()))?;
    let present = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_present = |name: &&str| present.lines().any(|line| line == *name);
    Ok(APPLETS.split_whitespace().filter(is_present).map(str::to_owned).collect())
}
