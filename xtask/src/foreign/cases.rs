//! Groups of cases for foreign programs. Each group runs in a machine of its own.
//!
//! A case is a paragraph in one of the files in `xtask/foreign/`, with the heading `## NAME`. It
//! runs in an empty folder.

/// Cases that run in the same machine.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The group's name.
    pub name: &'static str,
    /// The command that interprets a case's text.
    pub interpreter: &'static str,
    /// Required programs, in addition to busybox.
    pub programs: &'static [&'static str],
    /// The text of all cases.
    text: &'static str,
    /// Size of the machine's memory, as QEMU's option `-m` takes it.
    pub memory: &'static str,
    /// Time limit in seconds.
    pub limit_s: u64,
    /// Required files, in addition to the programs.
    pub files: Files,
    /// Whether `cargo xtask test` runs the group as well.
    pub is_quick: bool,
}

/// Files that a group requires in addition to its programs.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    /// Whether the variable `TREE` names a folder with this project's sources.
    pub has_tree: bool,
    /// Packages, each with the required folder in it, below the folder that `PACKAGES` names.
    pub packages: &'static [(&'static str, &'static str)],
    /// Files and folders of the host, at the same paths in the guest.
    pub machine: &'static [&'static str],
}

impl Files {
    const NONE: Self = Self { has_tree: false, packages: &[], machine: &[] };
    const TREE: Self = Self { has_tree: true, ..Self::NONE };
}

/// Files that a C compiler expects at fixed paths: the C library's development files, and enough
/// of its headers for a small program.
const C_LIBRARY: &[&str] = &[
    "/usr/include/stdio.h",
    "/usr/include/features.h",
    "/usr/include/features-time64.h",
    "/usr/include/stdc-predef.h",
    "/usr/include/x86_64-linux-gnu/bits",
    "/usr/include/x86_64-linux-gnu/gnu",
    "/usr/include/x86_64-linux-gnu/sys",
    "/usr/lib/x86_64-linux-gnu/crt1.o",
    "/usr/lib/x86_64-linux-gnu/crti.o",
    "/usr/lib/x86_64-linux-gnu/crtn.o",
    "/usr/lib/x86_64-linux-gnu/libc.so",
    "/usr/lib/x86_64-linux-gnu/libc_nonshared.a",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
];

/// Python's module of mappings, in the package libpython3.11-stdlib.
const PYTHON_MMAP: &str = "usr/lib/python3.11/lib-dynload/mmap.cpython-311-x86_64-linux-gnu.so";

/// What scripts need that use LMDB and mappings from Python.
const PYTHON_LMDB: Files = Files {
    packages: &[
        ("libpython3.11-minimal", "usr/lib/python3.11"),
        ("libpython3.11-stdlib", PYTHON_MMAP),
        ("python3-lmdb", "usr/lib/python3/dist-packages/lmdb"),
        ("liblmdb0", "usr/lib/x86_64-linux-gnu"),
    ],
    ..Files::NONE
};

/// Ruby's extensions, and those of its scripts that the cases load.
const RUBY: Files = Files {
    packages: &[
        ("libruby3.1", "usr/lib/x86_64-linux-gnu/ruby/3.1.0"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/fileutils.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/delegate.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/tempfile.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/tmpdir.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/open3"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/open3.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/timeout.rb"),
        ("libruby3.1", "usr/lib/ruby/3.1.0/socket.rb"),
    ],
    ..Files::NONE
};

/// Perl's library, and its layer for files in memory.
const PERL: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/usr/lib/x86_64-linux-gnu/perl/5.36/PerlIO",
    "/usr/lib/x86_64-linux-gnu/perl/5.36/auto/PerlIO",
    "/usr/share/perl/5.36/PerlIO.pm",
];

/// Python's library, and those of its own tests that cases run, by `python_tests.py`.
const PYTHON_TESTS: Files = Files {
    has_tree: true,
    packages: &[
        ("libpython3.11-minimal", "usr/lib/python3.11"),
        ("libpython3.11-stdlib", "usr/lib/python3.11"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/lock_tests.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/mapping_tests.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/signalinterproctester.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/subprocessdata"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_fcntl.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_io.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_os.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_pathlib.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_posix.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_select.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_selectors.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_shutil.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_signal.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_socket.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_subprocess.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_tempfile.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_threading.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_time.py"),
        ("libpython3.11-testsuite", "usr/lib/python3.11/test/tf_inherit_check.py"),
    ],
    // The C library loads it when a thread is cancelled.
    machine: &["/lib/x86_64-linux-gnu/libgcc_s.so.1"],
};

/// A named script for the group's interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// The text of the script.
    pub text: String,
}

/// A group of Python's own tests, which `xtask/foreign/python_tests.py` runs.
const fn python_tests(name: &'static str, text: &'static str) -> Group {
    Group {
        files: PYTHON_TESTS,
        memory: "256M",
        limit_s: 900,
        ..group(name, "busybox sh", &["python3.11"], text)
    }
}

const fn group(
    name: &'static str,
    interpreter: &'static str,
    programs: &'static [&'static str],
    text: &'static str,
) -> Group {
    Group {
        name,
        interpreter,
        programs,
        text,
        memory: "128M",
        limit_s: 300,
        files: Files::NONE,
        is_quick: false,
    }
}

/// All groups that are compared with Linux.
pub const GROUPS: &[Group] = &[
    Group {
        is_quick: true,
        ..group("busybox", "busybox sh", &[], include_str!("../../foreign/busybox.cases"))
    },
    Group {
        is_quick: true,
        ..group("ash", "busybox sh", &[], include_str!("../../foreign/scripts.cases"))
    },
    group(
        "bash",
        "bash",
        &["bash"],
        concat!(
            include_str!("../../foreign/scripts.cases"),
            include_str!("../../foreign/bash.cases")
        ),
    ),
    group("mksh", "mksh", &["mksh"], include_str!("../../foreign/scripts.cases")),
    group("lksh", "lksh", &["lksh"], include_str!("../../foreign/scripts.cases")),
    group("zsh", "zsh --emulate sh", &["zsh"], include_str!("../../foreign/scripts.cases")),
    Group {
        is_quick: true,
        ..group("pty", "busybox sh", &["ptyrun"], include_str!("../../foreign/pty.cases"))
    },
    group(
        "pty_shells",
        "busybox sh",
        &["ptyrun", "bash", "mksh", "lksh"],
        include_str!("../../foreign/pty_shells.cases"),
    ),
    Group {
        is_quick: true,
        ..group("hazards", "busybox sh", &[], include_str!("../../foreign/hazards.cases"))
    },
    group(
        "dynamic",
        // busybox's shell prefers its built-in programs.
        "bash",
        &[
            "bash", "cat", "cp", "dd", "sort", "grep", "sed", "tar", "gzip", "md5sum", "cmp",
            "diff", "find", "ls", "perl", "xz",
        ],
        include_str!("../../foreign/dynamic.cases"),
    ),
    group("sqlite", "busybox sh", &["sqlite3"], include_str!("../../foreign/sqlite.cases")),
    // The database does not fit into memory, and its journal holds the old contents as well.
    Group {
        limit_s: 1200,
        ..group(
            "sqlite_large",
            "busybox sh",
            &["sqlite3"],
            include_str!("../../foreign/sqlite_large.cases"),
        )
    },
    Group {
        files: Files::TREE,
        ..group("tree", "busybox sh", &["rg"], include_str!("../../foreign/tree.cases"))
    },
    Group {
        limit_s: 900,
        ..group("fsx", "busybox sh", &["fsx"], include_str!("../../foreign/fsx.cases"))
    },
    Group {
        files: Files {
            packages: &[("tcc", "usr/lib/x86_64-linux-gnu/tcc")],
            machine: C_LIBRARY,
            ..Files::NONE
        },
        ..group("compiler", "busybox sh", &["tcc"], include_str!("../../foreign/compiler.cases"))
    },
    Group {
        files: Files { machine: &["/usr/lib/file/magic.mgc"], ..Files::NONE },
        ..group(
            "stock",
            "bash",
            &["bash", "mv", "rm", "mawk", "dash", "openssl", "lua5.4", "git", "file"],
            include_str!("../../foreign/stock.cases"),
        )
    },
    Group {
        files: Files {
            packages: &[("libpython3.11-minimal", "usr/lib/python3.11")],
            ..Files::NONE
        },
        ..group("python", "busybox sh", &["python3.11"], include_str!("../../foreign/python.cases"))
    },
    Group {
        files: Files {
            packages: &[("libgcc-12-dev", "usr/lib/gcc/x86_64-linux-gnu/12/include")],
            machine: C_LIBRARY,
            ..Files::NONE
        },
        ..group("gcc", "busybox sh", &["cc1", "as", "ld"], include_str!("../../foreign/gcc.cases"))
    },
    Group {
        files: PYTHON_LMDB,
        ..group(
            "lmdb",
            "busybox sh",
            &[
                "mdb_load",
                "mdb_dump",
                "mdb_stat",
                "mdb_copy",
                "mtest",
                "mtest2",
                "mtest3",
                "mtest4",
                "mtest5",
                "python3.11",
            ],
            include_str!("../../foreign/lmdb.cases"),
        )
    },
    group("git", "bash", &["bash", "git"], include_str!("../../foreign/git.cases")),
    Group {
        files: Files {
            packages: &[("tcc", "usr/lib/x86_64-linux-gnu/tcc")],
            machine: C_LIBRARY,
            ..Files::NONE
        },
        ..group(
            "make",
            "busybox sh",
            &["make", "ninja", "tcc"],
            include_str!("../../foreign/make.cases"),
        )
    },
    group("rsync", "busybox sh", &["rsync"], include_str!("../../foreign/rsync.cases")),
    Group {
        files: RUBY,
        memory: "256M",
        ..group("ruby", "busybox sh", &["ruby3.1"], include_str!("../../foreign/ruby.cases"))
    },
    group(
        "gdbm",
        "busybox sh",
        &["gdbmtool", "gdbm_load", "gdbm_dump"],
        include_str!("../../foreign/gdbm.cases"),
    ),
    group(
        "berkeley_db",
        "busybox sh",
        &[
            "db5.3_load",
            "db5.3_dump",
            "db5.3_stat",
            "db5.3_verify",
            "db5.3_recover",
            "db5.3_archive",
            "db5.3_checkpoint",
            "db5.3_printlog",
        ],
        include_str!("../../foreign/berkeley_db.cases"),
    ),
    group("sqlite_wal", "busybox sh", &["sqlite3"], include_str!("../../foreign/sqlite_wal.cases")),
    Group {
        files: Files {
            packages: &[
                ("libpython3.11-minimal", "usr/lib/python3.11"),
                ("libpython3.11-stdlib", PYTHON_MMAP),
                ("libpython3.11-stdlib", "usr/lib/python3.11/dataclasses.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/difflib.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/getpass.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/gettext.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/pprint.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/shutil.py"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/test"),
                ("libpython3.11-stdlib", "usr/lib/python3.11/unittest"),
                ("libpython3.11-testsuite", "usr/lib/python3.11/test/test_mmap.py"),
            ],
            ..Files::NONE
        },
        ..group(
            "python_mmap",
            "busybox sh",
            &["python3.11"],
            include_str!("../../foreign/python_mmap.cases"),
        )
    },
    Group {
        files: Files { machine: PERL, ..Files::NONE },
        ..group("perl", "busybox sh", &["perl"], include_str!("../../foreign/perl.cases"))
    },
    python_tests("python_tests", include_str!("../../foreign/python_tests.cases")),
    python_tests("python_files", include_str!("../../foreign/python_files.cases")),
    python_tests("python_io", include_str!("../../foreign/python_io.cases")),
    python_tests("python_processes", include_str!("../../foreign/python_processes.cases")),
    python_tests("python_sockets", include_str!("../../foreign/python_sockets.cases")),
    // Written in Go, whose runtime has many threads, timers, signals between them, and epoll.
    Group {
        memory: "256M",
        ..group("go", "bash", &["bash", "gron", "fzf"], include_str!("../../foreign/go.cases"))
    },
    group(
        "redis",
        "bash",
        &["bash", "redis-server", "redis-cli", "redis-benchmark"],
        include_str!("../../foreign/redis.cases"),
    ),
    Group {
        files: PYTHON_LMDB,
        ..group(
            "mapped_large",
            "busybox sh",
            &["python3.11", "mdb_copy", "mdb_stat"],
            include_str!("../../foreign/mapped_large.cases"),
        )
    },
];

/// The programs that `--profit` measures; they are not compared with Linux.
pub const PROFIT: Group = group(
    "profit",
    "",
    &["cat", "cp", "dd", "grep", "cmp", "diff", "md5sum", "sort", "tar", "perl", "sqlite3", "rg"],
    include_str!("../../foreign/profit.cases"),
);

/// The measured programs that need only busybox, for tests.
pub const PROFIT_QUICK: Group =
    group("profit", "", &[], include_str!("../../foreign/profit.cases"));

impl Group {
    /// The cases. The second case of the same name gets the group's name as a suffix.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("## "), cases.last_mut()) {
                (Some(name), _) => {
                    let again = cases.iter().filter(|case| case.name == name).count();
                    let name =
                        if again == 0 { name.to_owned() } else { format!("{name}_{}", self.name) };
                    cases.push(Case { name, text: String::new() });
                }
                (None, Some(case)) => {
                    case.text.push_str(line);
                    case.text.push('\n');
                }
                (None, None) => {}
            }
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_unique_names_and_are_not_empty() {
        for group in GROUPS {
            let cases = group.cases();
            assert!(!cases.is_empty(), "{}", group.name);
            for (index, case) in cases.iter().enumerate() {
                assert!(!case.text.trim().is_empty(), "{}::{}", group.name, case.name);
                assert!(
                    cases[..index].iter().all(|other| other.name != case.name),
                    "{}::{}",
                    group.name,
                    case.name
                );
                assert!(
                    case.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                    "{}",
                    case.name
                );
            }
        }
    }
}
