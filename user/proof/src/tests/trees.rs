//! `/proc`, `/sys` and `/dev`: what programs look for there.

use proof::guest_test;
use proof::kit::{Outcome, content, file};
use user::fs;
use user::prelude::*;
use user::sys::abi;

fn text(path: &str) -> Outcome<String> {
    let bytes = user::io::read_file(path.as_bytes()).map_err(|error| format!("{path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(path: &str) -> Outcome<i64> {
    let text = text(path)?;
    text.trim().parse().map_err(|_| format!("{path}: {text}"))
}

/// The value of a line `name: value`.
fn value(text: &str, name: &str) -> Outcome<String> {
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map(|value| String::from(value.trim())).ok_or(format!("no {name} in {text}"))
}

/// Settings that programs read before they choose sizes.
#[guest_test]
fn tree_settings() -> Outcome {
    for (name, least, most) in [
        ("kernel/cap_last_cap", 30, 63),
        ("kernel/ngroups_max", 65_536, 65_536),
        ("kernel/overflowuid", 65_534, 65_534),
        ("kernel/pid_max", 4096, 4_194_304),
        ("kernel/threads-max", 1, i64::MAX),
        ("kernel/random/entropy_avail", 0, 4096),
        ("kernel/sched_rt_period_us", 1, 10_000_000),
        ("kernel/sched_rt_runtime_us", -1, 10_000_000),
        ("fs/file-max", 1024, i64::MAX),
        ("fs/nr_open", 1024, i64::MAX),
        ("fs/pipe-max-size", 1 << 16, 1 << 31),
        ("fs/pipe-user-pages-soft", 0, i64::MAX),
        ("vm/max_map_count", 1024, i64::MAX),
        ("vm/mmap_min_addr", 0, 65_536),
        ("vm/overcommit_memory", 0, 2),
        ("vm/overcommit_ratio", 0, 100),
    ] {
        let found = number(&format!("/proc/sys/{name}"))?;
        check!((least..=most).contains(&found), "{name} is {found}");
    }
    for name in ["core_pattern", "domainname", "hostname", "osrelease", "ostype", "version"] {
        let text = text(&format!("/proc/sys/kernel/{name}"))?;
        check!(text.len() > 1 && text.ends_with('\n'), "{name}: {text:?}");
    }
    let id = |name: &str| text(&format!("/proc/sys/kernel/random/{name}"));
    check_eq!(id("boot_id")?, id("boot_id")?);
    check!(id("uuid")? != id("uuid")?);
    check_eq!(id("uuid")?.trim().len(), 36);
    check_eq!(sys::open(b"/proc/sys/kernel/none", abi::O_RDONLY, 0), Err(Errno::ENOENT));
    check_eq!(sys::open(b"/proc/sys/none", abi::O_CREAT, 0), Err(Errno::ENOENT));
    Ok(())
}

/// The number of processors, from every place where programs look for it.
#[guest_test]
fn tree_processors() -> Outcome {
    let info = text("/proc/cpuinfo")?;
    let processors = info.lines().filter(|line| line.starts_with("processor\t:")).count();
    check!(processors >= 1);
    check!(value(&info, "flags")?.split(' ').any(|flag| flag == "sse2"));
    for name in ["vendor_id", "cpu family", "model", "model name", "stepping"] {
        check!(!value(&info, name)?.is_empty(), "{name}");
    }
    let last = processors - 1;
    let range = if last == 0 { String::from("0") } else { format!("0-{last}") };
    let cpu = "/sys/devices/system/cpu";
    check_eq!(text(&format!("{cpu}/online"))?.trim(), range);
    check!(text(&format!("{cpu}/possible"))?.starts_with('0'));
    check!(text(&format!("{cpu}/present"))?.starts_with('0'));
    check!(fs::list(cpu.as_bytes()).is_ok_and(|names| names.contains(&b"cpu0".to_vec())));
    check_eq!(number(&format!("{cpu}/cpu0/topology/core_id"))?, 0);
    check_eq!(sys::mkdir(format!("{cpu}/x").as_bytes(), 0o755), Err(Errno::EPERM));
    let lines = text("/proc/stat")?;
    check_eq!(lines.lines().filter(|line| line.starts_with("cpu")).count(), processors + 1);
    Ok(())
}

/// The files about a process have the form that tools expect.
#[guest_test]
fn tree_of_a_process() -> Outcome {
    let status = text("/proc/self/status")?;
    let me = format!("{}", sys::getpid());
    for (name, expected) in [("Pid", me.as_str()), ("Tgid", &me), ("Threads", "1")] {
        check_eq!(value(&status, name)?, expected);
    }
    ok!(sys::signal_ignore(abi::SIGUSR1 as i32));
    ok!(sys::signal_mask(1 << (abi::SIGUSR2 - 1)));
    ok!(sys::kill(sys::getpid(), abi::SIGUSR2 as i32));
    let status = text("/proc/self/status")?;
    let set = |name: &str| {
        let text = value(&status, name)?;
        u64::from_str_radix(&text, 16).map_err(|_| text)
    };
    check!(set("SigIgn")? & 1 << (abi::SIGUSR1 - 1) != 0);
    check!(set("SigBlk")? & 1 << (abi::SIGUSR2 - 1) != 0);
    check!((set("SigPnd")? | set("ShdPnd")?) & 1 << (abi::SIGUSR2 - 1) != 0);
    for name in ["Umask", "PPid", "VmSize", "VmRSS", "CapEff", "Cpus_allowed_list"] {
        check!(!value(&status, name)?.is_empty(), "{name}");
    }
    check_eq!(text("/proc/self/stat")?.trim().split(' ').count(), 52);
    check_eq!(text("/proc/self/statm")?.trim().split(' ').count(), 7);
    let limits = text("/proc/self/limits")?;
    check_eq!(limits.lines().count(), 17);
    check!(limits.lines().all(|line| line.len() >= 66), "{limits}");
    check!(text("/proc/self/mountinfo")?.lines().any(|line| line.contains(" / / ")));
    check!(text("/proc/self/cgroup")?.contains("::"));
    check!(text("/proc/self/oom_score")?.trim().parse::<u32>().is_ok());
    check!(text("/proc/self/io").map_or(true, |text| text.starts_with("rchar: ")));
    check_eq!(ok!(sys::readlink(b"/proc/self/root")), b"/");
    let smaps = text("/proc/self/smaps")?;
    check!(value(&smaps, "Rss")?.ends_with(" kB"));
    check_eq!(
        smaps.lines().filter(|line| line.starts_with("VmFlags:")).count(),
        smaps.lines().filter(|line| line.starts_with("Size:")).count()
    );
    Ok(())
}

/// The threads of a process, and what is known of its descriptors.
#[guest_test]
fn tree_of_threads_and_descriptors() -> Outcome {
    let me = format!("{}", sys::getpid());
    check_eq!(fs::list(b"/proc/self/task"), Ok(vec![me.clone().into_bytes()]));
    let task = format!("/proc/self/task/{me}");
    check_eq!(text(&format!("{task}/comm"))?, text("/proc/self/comm")?);
    check!(text(&format!("{task}/stat"))?.starts_with(&me));
    check_eq!(value(&text("/proc/thread-self/status")?, "Pid")?, me);
    check_eq!(sys::stat(b"/proc/self/task/0").map(drop), Err(Errno::ENOENT));
    let fd = file(b"f", &[0; 100])?;
    ok!(sys::lseek(fd, 42, abi::SEEK_SET));
    let info = text(&format!("/proc/self/fdinfo/{}", fd.0))?;
    check_eq!(value(&info, "pos")?, "42");
    let flags = u32::from_str_radix(&value(&info, "flags")?, 8).unwrap_or(0);
    check_eq!(flags & (abi::O_ACCMODE | abi::O_APPEND), abi::O_RDWR);
    check!(fs::list(b"/proc/self/fdinfo").is_ok_and(|names| names.len() >= 4));
    check_eq!(sys::stat(b"/proc/self/fdinfo/99").map(drop), Err(Errno::ENOENT));
    Ok(())
}

/// Files about the system as a whole.
#[guest_test]
fn tree_of_the_system() -> Outcome {
    for (name, part) in [
        ("cmdline", "\n"),
        ("devices", "Character devices:\n"),
        ("partitions", "#blocks"),
        ("swaps", "Filename"),
        ("vmstat", "nr_free_pages "),
        ("filesystems", "nodev\tproc\n"),
        ("mounts", " / "),
        ("version", "Linux version "),
        ("meminfo", "MemTotal:"),
        ("uptime", "."),
        ("loadavg", "/"),
    ] {
        let text = text(&format!("/proc/{name}"))?;
        check!(text.contains(part), "{name}: {text}");
    }
    Ok(())
}

/// Devices have the numbers of Linux, and names in `/dev/shm` are files.
#[guest_test]
fn tree_of_devices() -> Outcome {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("ptmx", 5, 2),
    ] {
        let stat = ok!(sys::stat(format!("/dev/{name}").as_bytes()));
        check!(fs::is_kind(stat.st_mode, abi::S_IFCHR), "{name}");
        check_eq!(stat.st_rdev, major << 8 | minor, "{name}");
    }
    let name = format!("/dev/shm/tree.{}", sys::getpid());
    let flags = abi::O_RDWR | abi::O_CREAT | abi::O_EXCL | abi::O_NOFOLLOW | abi::O_CLOEXEC;
    let fd = ok!(sys::open(name.as_bytes(), flags, 0o600));
    ok!(sys::ftruncate(fd, ByteCount(8192)));
    ok!(sys::write_all(fd, b"shared"));
    check_eq!(&content(name.as_bytes())?[..6], b"shared");
    check_eq!(ok!(sys::stat(b"/dev/shm")).st_mode & 0o7777, 0o1777);
    ok!(sys::unlink(name.as_bytes()));
    for (name, fd) in [("stdin", 0), ("stdout", 1), ("stderr", 2)] {
        let stat = ok!(sys::stat(format!("/dev/{name}").as_bytes()));
        let open = ok!(sys::fstat(Fd(fd)));
        check_eq!((stat.st_dev, stat.st_ino), (open.st_dev, open.st_ino), "{name}");
    }
    let opened = file(b"f", b"by its number")?;
    check_eq!(content(format!("/dev/fd/{}", opened.0).as_bytes())?, b"by its number");
    Ok(())
}
