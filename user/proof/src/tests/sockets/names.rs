//! Names of sockets: paths, abstract ones, and those that the kernel chooses.

use super::{
    DATAGRAM, EADDRINUSE, EPROTONOSUPPORT, ESOCKTNOSUPPORT, PACKET, STREAM, UNIX, accept, bind,
    connect, listen, named, naming, own_name, reported, send_to, socket,
};
use proof::guest_test;
use proof::kit::{Outcome, file, raw};
use user::prelude::*;
use user::sys::abi;

#[guest_test]
fn unix_socket_call() -> Outcome {
    let make = |domain: usize, kind: usize, protocol: usize| {
        raw(abi::__NR_socket, &[domain, kind, protocol]).map(drop)
    };
    check_eq!(make(UNIX, 1, 1), Ok(()));
    check_eq!(make(UNIX, 3, 0), Ok(()));
    check_eq!(make(UNIX, 1, 2), Err(EPROTONOSUPPORT));
    check_eq!(make(UNIX, 4, 0), Err(ESOCKTNOSUPPORT));
    check_eq!(make(UNIX, 11, 0), Err(Errno::EINVAL));
    check_eq!(make(UNIX, 1 | 0x10_0000, 0), Err(Errno::EINVAL));
    check_eq!(make(99, 1, 0), Err(Errno::EAFNOSUPPORT));
    let fd = ok!(socket(STREAM | abi::O_CLOEXEC | abi::O_NONBLOCK));
    check_eq!(raw(abi::__NR_fcntl, &[fd.argument(), 1, 0]), Ok(1));
    check_eq!(raw(abi::__NR_fcntl, &[fd.argument(), 3, 0]).map(|flags| flags & 0o4003), Ok(0o4002));
    let [one, _] = ok!(sys::pipe(0));
    check_eq!(bind(one, b"x"), Err(Errno::ENOTSOCK));
    check_eq!(listen(one, 1), Err(Errno::ENOTSOCK));
    check_eq!(accept(Fd(99)), Err(Errno::EBADF));
    Ok(())
}

#[guest_test]
fn unix_path_names() -> Outcome {
    let one = ok!(socket(STREAM));
    ok!(raw(abi::__NR_umask, &[0o027]));
    ok!(bind(one, b"path"));
    let stat = ok!(sys::stat(b"path"));
    check_eq!((stat.st_mode, stat.st_size, stat.st_nlink), (abi::S_IFSOCK | 0o750, 0, 1));
    check_eq!(bind(one, b"other"), Err(Errno::EINVAL));
    check_eq!(bind(ok!(socket(STREAM)), b"path"), Err(EADDRINUSE));
    check_eq!(bind(ok!(socket(STREAM)), b"missing/x"), Err(Errno::ENOENT));
    check_eq!(bind(ok!(socket(STREAM)), b"path/x"), Err(Errno::ENOTDIR));
    // A socket is not opened by its name.
    for flags in [abi::O_RDONLY, abi::O_RDWR, abi::O_WRONLY | abi::O_CREAT] {
        check_eq!(sys::open(b"path", flags, 0o600), Err(Errno::ENXIO));
    }
    let node = ok!(sys::open(b"path", abi::O_PATH, 0));
    check_eq!(ok!(sys::fstat(node)).st_ino, stat.st_ino);
    check_eq!(listen(node, 1), Err(Errno::EBADF));
    // Not before it listens.
    let client = || socket(STREAM);
    check_eq!(connect(ok!(client()), b"path"), Err(Errno::ECONNREFUSED));
    ok!(listen(one, 5));
    check_eq!(connect(ok!(client()), b"path"), Ok(0));
    // The name may change; another name leads to the same socket.
    ok!(sys::rename(b"path", b"moved"));
    ok!(sys::link(b"moved", b"second"));
    ok!(sys::symlink(b"moved", b"link"));
    for name in [&b"moved"[..], b"second", b"link", b"./moved"] {
        check_eq!(connect(ok!(client()), name), Ok(0));
    }
    check_eq!(connect(ok!(client()), b"path"), Err(Errno::ENOENT));
    check_eq!(own_name(one), Ok(reported(b"path")));
    file(b"regular", b"")?;
    check_eq!(connect(ok!(client()), b"regular"), Err(Errno::ECONNREFUSED));
    check_eq!(connect(ok!(client()), b"."), Err(Errno::ECONNREFUSED));
    ok!(sys::unlink(b"moved"));
    ok!(sys::close(one));
    check_eq!(connect(ok!(client()), b"second"), Err(Errno::ECONNREFUSED));
    // The node stays, and the name can be used again once it is gone.
    check_eq!(bind(ok!(client()), b"second"), Err(EADDRINUSE));
    ok!(sys::unlink(b"second"));
    check_eq!(bind(ok!(client()), b"second"), Ok(0));
    Ok(())
}

/// mknod(2) makes a name without a socket.
#[guest_test]
fn unix_node() -> Outcome {
    let make = || {
        let mode = (abi::S_IFSOCK | 0o644) as usize;
        raw(abi::__NR_mknod, &[c"node".as_ptr() as usize, mode, 0])
    };
    check_eq!(make(), Ok(0));
    check_eq!(make(), Err(Errno::EEXIST));
    check_eq!(ok!(sys::stat(b"node")).st_mode, abi::S_IFSOCK | 0o644);
    check_eq!(connect(ok!(socket(STREAM)), b"node"), Err(Errno::ECONNREFUSED));
    check_eq!(sys::open(b"node", abi::O_RDONLY, 0), Err(Errno::ENXIO));
    ok!(sys::chmod(b"node", 0o600));
    check_eq!(ok!(sys::stat(b"node")).st_mode, abi::S_IFSOCK | 0o600);
    check_eq!(sys::truncate(b"node", ByteCount(1)), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn unix_abstract_names() -> Outcome {
    let (one, other) = (ok!(socket(STREAM)), ok!(socket(STREAM)));
    ok!(bind(one, b"\0abstract\0name"));
    check_eq!(own_name(one), Ok(b"\x01\0\0abstract\0name".to_vec()));
    check_eq!(bind(other, b"\0abstract\0name"), Err(EADDRINUSE));
    check_eq!(connect(other, b"\0abstract"), Err(Errno::ECONNREFUSED));
    check_eq!(connect(other, b"\0abstract\0name"), Err(Errno::ECONNREFUSED));
    ok!(listen(one, 1));
    check_eq!(connect(other, b"\0abstract\0name"), Ok(0));
    ok!(sys::close(one));
    let again = ok!(socket(PACKET));
    check_eq!(bind(again, b"\0abstract\0name"), Ok(0));
    // The kernel chooses names of five hexadecimal digits.
    let chosen = ok!(socket(DATAGRAM));
    check_eq!(bind(chosen, b""), Ok(0));
    let name = ok!(own_name(chosen));
    check_eq!((name.len(), &name[..3]), (8, &[1, 0, 0][..]));
    check!(name[3..].iter().all(|byte| byte.is_ascii_hexdigit()));
    check_eq!(send_to(ok!(socket(DATAGRAM)), b"x", 0, &name[2..]), Ok(1));
    check_eq!(bind(chosen, b""), Ok(0));
    check_eq!(ok!(own_name(chosen)), name);
    Ok(())
}

#[guest_test]
fn unix_bad_addresses() -> Outcome {
    let fd = ok!(socket(STREAM));
    for call in [abi::__NR_bind, abi::__NR_connect] {
        let with = |bytes: &[u8], length: usize| {
            raw(call, &[fd.argument(), bytes.as_ptr() as usize, length])
        };
        let long = [1; 200];
        check_eq!(with(&[2, 0, 1, 2, 3], 5), Err(Errno::EINVAL));
        check_eq!(with(&[1], 1), Err(Errno::EINVAL));
        check_eq!(with(&long, 111), Err(Errno::EINVAL));
        check_eq!(with(&long, 200), Err(Errno::EINVAL));
        check_eq!(with(&long, usize::MAX), Err(Errno::EINVAL));
        check_eq!(raw(call, &[fd.argument(), 8, 10]), Err(Errno::EFAULT));
    }
    check_eq!(named(abi::__NR_connect, fd, b""), Err(Errno::EINVAL));
    // The address is stored as far as there is space, and its whole length.
    ok!(bind(fd, b"name"));
    let (mut bytes, mut length) = ([0xee; 8], 4u32);
    let get = |length: &mut u32, bytes: &mut [u8; 8]| {
        let length = core::ptr::from_mut(length) as usize;
        raw(abi::__NR_getsockname, &[fd.argument(), bytes.as_mut_ptr() as usize, length])
    };
    check_eq!(get(&mut length, &mut bytes), Ok(0));
    check_eq!((length, bytes), (7, [1, 0, b'n', b'a', 0xee, 0xee, 0xee, 0xee]));
    length = u32::MAX;
    check_eq!(get(&mut length, &mut bytes), Err(Errno::EINVAL));
    check_eq!(naming(abi::__NR_getsockname, Fd(99)), Err(Errno::EBADF));
    check_eq!(raw(abi::__NR_getsockname, &[fd.argument(), 8, 8]), Err(Errno::EFAULT));
    Ok(())
}
