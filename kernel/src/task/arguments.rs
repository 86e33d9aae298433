//! Arguments and environment of a new program, and what the first line of a script adds to them.
//!
//! A program chooses their number and length: others run while they are copied and dropped
//! ([`Pace`]).
#![forbid(unsafe_code)]

use super::Current;
use crate::file::IoCaller;
use crate::mem::account::{Charge, Kind};
use crate::mem::{OutOfMemory, UserAddr, fallible};
use crate::sync::{Interrupt, Interrupted, relax};
use alloc::vec::Vec;
use foundation::{ByteCount, Errno};

/// Upper bound for arguments and environment together. (Linux: a quarter of the stack.)
const MAX_ARGUMENT_BYTES: usize = 1 << 20;
/// Upper bound for one argument, as on Linux.
const MAX_STRING_BYTES: usize = 128 << 10;
/// Bytes of a file that can be a `#!` line (Linux's `BINPRM_BUF_SIZE`).
const MAX_SCRIPT_LINE: usize = 256;
/// Bytes that a string takes besides its own.
const STRING_OVERHEAD: usize = 2 * size_of::<Vec<u8>>() + 16;

/// The arguments and the environment of a new program.
#[derive(Debug)]
pub struct Arguments {
    /// Arguments, the program's name first.
    pub arguments: Vec<Vec<u8>>,
    /// Environment, as `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// For both, while the program is loaded.
    pub charge: Charge,
}

/// Lets others run, and notices a kill, each time that so much was done.
#[derive(Default)]
pub(super) struct Pace(usize);

impl Pace {
    /// Some 200,000 instructions: a byte takes a few, while it is copied in and out.
    const MOST: usize = 32 << 10;
    /// A string takes as long as so many bytes, however short it is.
    const STRING: usize = 64;

    /// Called before a string, with no lock held.
    pub fn step(&mut self, string: &[u8]) -> Result<(), Interrupted> {
        self.0 += Self::STRING + string.len();
        if self.0 < Self::MOST {
            return Ok(());
        }
        self.0 = 0;
        relax(Interrupt::Killable)
    }
}

impl Drop for Arguments {
    /// Called with no lock held.
    fn drop(&mut self) {
        let mut pace = Pace::default();
        for strings in [&mut self.arguments, &mut self.environment] {
            while let Some(string) = strings.pop() {
                // They are dropped for a killed thread, too.
                let _ = pace.step(&string);
            }
        }
    }
}

impl Arguments {
    /// Copies both vectors from the caller's memory.
    pub fn read(
        current: &Current,
        arguments: UserAddr,
        environment: UserAddr,
    ) -> Result<Self, Errno> {
        let mut left = MAX_ARGUMENT_BYTES;
        let charge = Charge::take(current.account(), Kind::Files, 0)?;
        let mut all = Self { arguments: Vec::new(), environment: Vec::new(), charge };
        read_vector(current, arguments, &mut left, (&mut all.charge, &mut all.arguments))?;
        if all.arguments.is_empty() {
            // A program finds its name there: it would take the environment for it.
            fallible::push(&mut all.arguments, Vec::new())?;
        }
        read_vector(current, environment, &mut left, (&mut all.charge, &mut all.environment))?;
        Ok(all)
    }
}

/// Copies a vector of strings, ended by a null pointer; a null vector is an empty one, as on Linux.
fn read_vector(
    current: &Current,
    vector: UserAddr,
    left: &mut usize,
    (charge, strings): (&mut Charge, &mut Vec<Vec<u8>>),
) -> Result<(), Errno> {
    let (mut at, mut pace) = (vector, Pace::default());
    if vector.is_null() {
        return Ok(());
    }
    loop {
        let pointer = UserAddr(u64::from_le_bytes(current.read(at)?));
        if pointer.is_null() {
            return Ok(());
        }
        let string = current.space().read_string(pointer, MAX_STRING_BYTES)?.ok_or(Errno::E2BIG)?;
        pace.step(&string)?;
        *left = left.checked_sub(string.len() + 1 + size_of::<u64>()).ok_or(Errno::E2BIG)?;
        charge.resize(charge.bytes() + string.len() + STRING_OVERHEAD)?;
        fallible::push(strings, string)?;
        at = at.checked_add(ByteCount(8)).ok_or(Errno::EFAULT)?;
    }
}

impl Arguments {
    /// Prepends a script's interpreter and its option.
    pub(super) fn wrap_script(
        &mut self,
        line: ScriptLine<'_>,
        script: &[u8],
    ) -> Result<(), OutOfMemory> {
        let mut arguments = fallible::with_capacity(self.arguments.len() + 2)?;
        arguments.push(line.interpreter.to_vec());
        arguments.extend(line.option.map(<[u8]>::to_vec));
        arguments.push(script.to_vec());
        arguments.extend(self.arguments.drain(..).skip(1));
        self.arguments = arguments;
        Ok(())
    }
}

/// What a script's first line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScriptLine<'a> {
    /// Its path, as it stands there.
    pub interpreter: &'a [u8],
    /// All that follows, blanks included.
    option: Option<&'a [u8]>,
}

impl<'a> ScriptLine<'a> {
    /// Decodes the first bytes of a file; `None` unless it is a script. Only [`MAX_SCRIPT_LINE`]
    /// bytes count, as in Linux's `fs/binfmt_script.c`: ENOEXEC where the name is missing or does
    /// not end within them. A null byte ends a name, which may be empty.
    pub fn parse(start: &'a [u8]) -> Result<Option<Self>, Errno> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
        let most = MAX_SCRIPT_LINE - 2;
        let is_cut = line.len() >= most && !line.iter().take(most).any(|&byte| byte == b'\n');
        let line = line.get(..most.min(line.len())).unwrap_or_default();
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let blanks = line.iter().take_while(|byte| is_blank(byte)).count();
        let rest = line.get(blanks..).unwrap_or_default();
        let name = rest.iter().take_while(|byte| !is_blank(byte) && **byte != 0).count();
        let has_end = name < rest.len() || !is_cut;
        // A file that ends before the line does is followed by null bytes.
        let has_name = !rest.is_empty() || start.len() < MAX_SCRIPT_LINE && !start.contains(&b'\n');
        if !has_end || !has_name {
            return Err(Errno::ENOEXEC);
        }
        let (interpreter, rest) = rest.split_at_checked(name).unwrap_or_default();
        let rest = rest.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
        Ok(Some(Self { interpreter, option: (!rest.is_empty()).then_some(rest) }))
    }
}
