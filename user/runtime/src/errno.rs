//! Linux's error numbers and their texts.

use core::fmt;
use linux_raw_sys::errno as linux;

/// A positive error number, as returned by a system call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

macro_rules! errors {
    ($($name:ident $text:literal)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(linux::$name as u16);)*

            /// The symbolic name, if it is in this table.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The text of `strerror`, if it is in this table.
            pub fn message(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    EPERM "Operation not permitted"
    ENOENT "No such file or directory"
    ESRCH "No such process"
    EINTR "Interrupted system call"
    EIO "Input/output error"
    ENXIO "No such device or address"
    E2BIG "Argument list too long"
    ENOEXEC "Exec format error"
    EBADF "Bad file descriptor"
    ECHILD "No child processes"
    EAGAIN "Resource temporarily unavailable"
    ENOMEM "Cannot allocate memory"
    EACCES "Permission denied"
    EFAULT "Bad address"
    ENOTBLK "Block device required"
    EBUSY "Device or resource busy"
    EEXIST "File exists"
    EXDEV "Invalid cross-device link"
    ENODEV "No such device"
    ENOTDIR "Not a directory"
    EISDIR "Is a directory"
    EINVAL "Invalid argument"
    ENFILE "Too many open files in system"
    EMFILE "Too many open files"
    ENOTTY "Inappropriate ioctl for device"
    ETXTBSY "Text file busy"
    EFBIG "File too large"
    ENOSPC "No space left on device"
    ESPIPE "Illegal seek"
    EROFS "Read-only file system"
    EMLINK "Too many links"
    EPIPE "Broken pipe"
    EDOM "Numerical argument out of domain"
    ERANGE "Numerical result out of range"
    EDEADLK "Resource deadlock avoided"
    ENAMETOOLONG "File name too long"
    ENOSYS "Function not implemented"
    ENOTEMPTY "Directory not empty"
    ELOOP "Too many levels of symbolic links"
    ENODATA "No data available"
    EPROTO "Protocol error"
    EBADMSG "Bad message"
    EOVERFLOW "Value too large for defined data type"
    EILSEQ "Invalid or incomplete multibyte or wide character"
    ENOTSOCK "Socket operation on non-socket"
    EDESTADDRREQ "Destination address required"
    EMSGSIZE "Message too long"
    EPROTOTYPE "Protocol wrong type for socket"
    EPROTONOSUPPORT "Protocol not supported"
    ESOCKTNOSUPPORT "Socket type not supported"
    EOPNOTSUPP "Operation not supported"
    EAFNOSUPPORT "Address family not supported by protocol"
    ECONNRESET "Connection reset by peer"
    ENOBUFS "No buffer space available"
    ENOTCONN "Transport endpoint is not connected"
    ETIMEDOUT "Connection timed out"
    ECONNREFUSED "Connection refused"
    EALREADY "Operation already in progress"
    EINPROGRESS "Operation now in progress"
    ESTALE "Stale file handle"
    EDQUOT "Disk quota exceeded"
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(text) => f.write_str(text),
            None => write!(f, "Unknown error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}
