//! The shell as a program: scripts and their expected output. Where `dash` is installed, it must
//! print the same.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(shell: &str, script: &str, input: &str) -> Output {
    let mut child = Command::new(shell)
        .args(["-c", script, "sh"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // The script may end without reading its input.
    let _ = child.stdin.take().expect("is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ends")
}

fn is_installed(shell: &str) -> bool {
    Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success())
}

/// A script, its output and its status.
const CASES: &[(&str, &str, i32)] = &[
    ("echo a b  'c  d' \"e  f\" g\\ h", "a b c  d e  f g h\n", 0),
    (
        "x=5; y='a b'; echo $x \"$y\" $y ${x}z ${u:-def} ${#y} $((x*3+1))",
        "5 a b a b 5z def 3 16\n",
        0,
    ),
    ("printf '[%s]' \"a  b\" $none \"\" c", "[a  b][][c]", 0),
    ("echo one | cat | tr a-z A-Z", "ONE\n", 0),
    ("false || echo or && echo and", "or\nand\n", 0),
    ("true && false; echo $?", "1\n", 0),
    ("! true", "", 1),
    ("(exit 7)", "", 7),
    ("no-such-command", "", 127),
    ("/", "", 126),
    ("sh -c 'kill -9 $$'", "", 137),
    ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n", 0),
    (
        "i=0; while [ $i -lt 5 ]; do i=$((i+1)); [ $i = 2 ] && continue; [ $i = 4 ] && break; \
         echo $i; done",
        "1\n3\n",
        0,
    ),
    (
        "for i in 1 2; do for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done",
        "1a\n2a\n",
        0,
    ),
    ("until true; do echo no; done; echo $?", "0\n", 0),
    ("case abc.c in *.h) echo h;; *.c|*.x) echo c;; *) echo other;; esac", "c\n", 0),
    ("f() { echo $1 $#; return 3; }; f a b; echo $?", "a 2\n3\n", 0),
    (
        "set -- a 'b c'; echo $#; for x; do echo \"<$x>\"; done; shift; echo \"$*\"",
        "2\n<a>\n<b c>\nb c\n",
        0,
    ),
    ("cat <<E\nx $((1+1)) $(echo y)\nE\necho z", "x 2 y\nz\n", 0),
    ("cat <<'E' | cat\n$x `y`\nE", "$x `y`\n", 0),
    ("echo \"$(echo \"$(echo deep)\")\" `echo old`", "deep old\n", 0),
    ("echo err >&2; echo out 2>/dev/null", "out\n", 0),
    ("{ echo a; echo b >&2; } 2>&1 | sort", "a\nb\n", 0),
    ("cd /; cd usr; pwd; cd - >/dev/null; pwd", "/usr\n/\n", 0),
    ("read a b; echo $b-$a; read -r c; echo \"$c\"", "two three-one\nb\\yz\n", 0),
    ("x=1; (x=2); echo $x; x=3 true; echo $x", "1\n1\n", 0),
    ("export V=9; sh -c 'echo $V'; W=8 sh -c 'echo $W'", "9\n8\n", 0),
    ("set -e; false; echo no", "", 1),
    ("set -e; if false; then :; fi; false || true; ! true; echo yes", "yes\n", 0),
    ("sleep 0.05 & wait $!; echo $?; (exit 4) & wait $!; echo $?", "0\n4\n", 0),
    // A program in the background is the process that `$!` names.
    ("sh -c 'echo $$' > pid & wait; [ $! = $(cat pid) ] && echo same; rm pid", "same\n", 0),
    (
        "x=5 sh -c 'exit $x' & wait $!; echo $?; false | no-such-program 2>/dev/null; echo $?",
        "5\n127\n",
        0,
    ),
    ("echo a\\\nb; printf 'echo c\\\\\\nd\\n\\\\\\necho e' | sh", "ab\ncd\ne\n", 0),
    ("p=/a/b/c.txt; echo ${p##*/} ${p%.*} ${p#/} ${p%%/*}.", "c.txt /a/b/c a/b/c.txt .\n", 0),
    ("IFS=:; l=a:b::c; for q in $l; do echo \"($q)\"; done", "(a)\n(b)\n()\n(c)\n", 0),
    ("echo /etc/pass*d /no-such-*", "/etc/passwd /no-such-*\n", 0),
    ("eval 'echo a; echo b'; . /dev/null; echo $?", "a\nb\n0\n", 0),
    ("echo a#b #c", "a#b\n", 0),
    ("exec 3>&1; echo three >&3; exec echo last; echo never", "three\nlast\n", 0),
    ("exit 300", "", 44),
    ("test a = a -a ! -d /etc/passwd && [ 3 -gt 2 ] && echo yes", "yes\n", 0),
    ("trues() { return 0; }; trues && echo fn", "fn\n", 0),
    ("x=$(false); echo $?; x=$(exit 3) || echo $?", "1\n3\n", 0),
    ("echo ${e:=set} $e ${e:+other} ${n:+none}.", "set set other .\n", 0),
    (
        "echo $((0x10 + 010)) $((7 / 2)) $((-7 % 3)) $((1 ? 2 : 3)) $((5 > 3 && 2 >= 2))",
        "24 3 -1 2 1\n",
        0,
    ),
    ("echo 'a;b' | while read l; do echo \"got $l\"; done", "got a;b\n", 0),
    ("if", "", 2),
];

const INPUT: &str = "one two three\nb\\yz\n";

#[test]
fn scripts_print_what_is_expected() {
    for (script, output, status) in CASES {
        let seen = run(env!("CARGO_BIN_EXE_sh"), script, INPUT);
        let errors = String::from_utf8_lossy(&seen.stderr);
        assert_eq!(String::from_utf8_lossy(&seen.stdout), *output, "{script}\n{errors}");
        let ended = std::os::unix::process::ExitStatusExt::signal(&seen.status);
        assert_eq!((seen.status.code(), ended), (Some(*status), None), "{script}\n{errors}");
    }
}

#[test]
fn dash_agrees() {
    if !is_installed("dash") {
        eprintln!("no dash here to compare with");
        return;
    }
    for (script, output, status) in CASES {
        let seen = run("dash", script, INPUT);
        assert_eq!(String::from_utf8_lossy(&seen.stdout), *output, "{script}");
        assert_eq!(seen.status.code(), Some(*status), "{script}");
    }
}
