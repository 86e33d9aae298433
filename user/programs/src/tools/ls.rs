//! `ls [-l] [-a] [-A] [-1] [-d] [-i] [-h] [-R] [-s] [FILE…]`: lists directories.

use user::prelude::*;

use sys::abi;
use user::fs;
use user::opt::Options;

pub fn run(args: &Args) -> i32 {
    let options = Options::parse(args, "laA1dihRsFt", "ls [-laAdihRs] [FILE...]");
    let here: &[&[u8]] = &[b"."];
    let operands = if options.operands.is_empty() { here } else { &options.operands };
    let mut lister = Lister { options: &options, out: Out::standard(), status: 0 };
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for path in operands {
        match sys::lstat(path) {
            Ok(stat) => {
                let directory = fs::is_kind(stat.st_mode, abi::S_IFDIR)
                    || (fs::is_kind(stat.st_mode, abi::S_IFLNK)
                        && !options.has(b'l')
                        && fs::is_directory(path));
                if directory && !options.has(b'd') {
                    directories.push(path)
                } else {
                    files.push((path.to_vec(), stat))
                }
            }
            Err(error) => lister.status = complain("ls", path, error) + 1,
        }
    }
    let several = operands.len() > 1 || options.has(b'R');
    let titles = if several { Titles::Shown } else { Titles::Hidden };
    let mut first = files.is_empty();
    lister.show(b"", files);
    for path in directories {
        lister.directory(path, titles, &mut first);
    }
    let Lister { out, status, .. } = lister;
    out.finish("ls", status)
}

/// Whether a directory's path is printed before its entries.
#[derive(Clone, Copy, PartialEq)]
enum Titles {
    Hidden,
    Shown,
}

struct Lister<'a> {
    options: &'a Options,
    out: Out,
    status: i32,
}

impl Lister<'_> {
    /// Lists a directory, with `-R` also those below it. `first` is whether it is the first
    /// output.
    fn directory(&mut self, path: &[u8], titles: Titles, first: &mut bool) {
        let mut names = match fs::read_directory(path) {
            Ok(entries) => entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>(),
            Err(error) => {
                self.status = complain("ls", path, error) + 1;
                return;
            }
        };
        names.sort();
        let special = |name: &[u8]| matches!(name, b"." | b"..");
        if !self.options.has(b'a') {
            names.retain(|name| {
                !name.starts_with(b".") || (self.options.has(b'A') && !special(name))
            });
        }
        if titles == Titles::Shown {
            let gap: &[u8] = if *first { b"" } else { b"\n" };
            self.out.put(&[gap, path, b":\n"].concat());
        }
        *first = false;
        let mut entries = Vec::new();
        for name in names {
            match sys::lstat(&fs::join(path, &name)) {
                Ok(stat) => entries.push((name, stat)),
                Err(error) => self.status = complain("ls", &fs::join(path, &name), error),
            }
        }
        if self.options.has(b'l') || self.options.has(b's') {
            let blocks: i64 = entries.iter().map(|(_, stat)| stat.st_blocks).sum();
            self.out.put(format!("total {}\n", blocks / 2).as_bytes());
        }
        let below: Vec<Vec<u8>> = entries
            .iter()
            .filter(|(name, stat)| fs::is_kind(stat.st_mode, abi::S_IFDIR) && !special(name))
            .map(|(name, _)| fs::join(path, name))
            .collect();
        self.show(path, entries);
        if self.options.has(b'R') {
            for path in below {
                self.directory(&path, Titles::Shown, first);
            }
        }
    }

    /// Prints the entries of one directory.
    fn show(&mut self, directory: &[u8], mut entries: Vec<(Vec<u8>, sys::Stat)>) {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        if self.options.has(b't') {
            entries
                .sort_by_key(|(_, stat)| core::cmp::Reverse((stat.st_mtime, stat.st_mtime_nsec)));
        }
        let size = |stat: &sys::Stat| {
            if self.options.has(b'h') {
                human(stat.st_size as u64)
            } else {
                format!("{}", stat.st_size)
            }
        };
        let widest = |text: fn(&sys::Stat) -> u64| {
            entries.iter().map(|(_, stat)| format!("{}", text(stat)).len()).max().unwrap_or(0)
        };
        let (link_width, user_width) =
            (widest(|stat| stat.st_nlink), widest(|stat| stat.st_uid.into()));
        let group_width = widest(|stat| stat.st_gid.into());
        let size_width = entries.iter().map(|(_, stat)| size(stat).len()).max().unwrap_or(0);
        for (name, stat) in &entries {
            let mut line = String::new();
            if self.options.has(b'i') {
                line += &format!("{:>7} ", stat.st_ino);
            }
            if self.options.has(b's') {
                line += &format!("{:>6} ", stat.st_blocks / 2);
            }
            if self.options.has(b'l') {
                line += &format!(
                    "{} {:link_width$} {:user_width$} {:group_width$} {:>size_width$} {} ",
                    mode_text(stat.st_mode),
                    stat.st_nlink,
                    stat.st_uid,
                    stat.st_gid,
                    size(stat),
                    date(stat.st_mtime),
                );
            }
            let mut line = line.into_bytes();
            line.extend_from_slice(name);
            if self.options.has(b'F') && fs::is_kind(stat.st_mode, abi::S_IFDIR) {
                line.push(b'/');
            }
            if self.options.has(b'l')
                && fs::is_kind(stat.st_mode, abi::S_IFLNK)
                && let Ok(target) = sys::readlink(&fs::join(directory, name))
            {
                line.extend([b" -> ", target.as_slice()].concat());
            }
            line.push(b'\n');
            self.out.put(&line);
        }
    }
}

/// Type and permissions in ten letters.
fn mode_text(mode: u32) -> String {
    let kinds = [
        (abi::S_IFDIR, 'd'),
        (abi::S_IFLNK, 'l'),
        (abi::S_IFCHR, 'c'),
        (abi::S_IFBLK, 'b'),
        (abi::S_IFIFO, 'p'),
        (abi::S_IFSOCK, 's'),
    ];
    let mut text = String::new();
    text.push(
        kinds.iter().find(|(kind, _)| fs::is_kind(mode, *kind)).map_or('-', |(_, letter)| *letter),
    );
    for (bit, letter) in (0..9).rev().zip("rwxrwxrwx".chars()) {
        text.push(if mode & (1 << bit) != 0 { letter } else { '-' });
    }
    text
}

/// A size with a binary unit.
fn human(bytes: u64) -> String {
    let mut tenths = u128::from(bytes) * 10;
    for unit in ["", "K", "M", "G", "T"] {
        if tenths < 10240 {
            let whole = unit.is_empty() || tenths >= 100;
            return if whole {
                format!("{}{unit}", tenths.div_ceil(10))
            } else {
                format!("{}.{}{unit}", tenths / 10, tenths % 10)
            };
        }
        tenths = tenths.div_ceil(1024);
    }
    format!("{}P", tenths.div_ceil(10))
}

/// A time as `YYYY-MM-DD HH:MM`, in UTC. The calendar is Howard Hinnant's `civil_from_days`.
fn date(seconds: u64) -> String {
    let (days, second) = ((seconds / 86400) as i64, seconds % 86400);
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second % 3600 / 60)
}
