//! The interface of QEMU's plugins, version 1 (`include/qemu/qemu-plugin.h`).

use crate::calls::{Block, Calls, Transfer};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A plugin's number.
type Id = u64;
type TranslateCallback = extern "C" fn(Id, *mut TranslationBlock);
type ExecuteCallback = extern "C" fn(c_uint, *mut c_void);
type AccessCallback = extern "C" fn(c_uint, u32, u64, *mut c_void);
type ExitCallback = extern "C" fn(Id, *mut c_void);

/// QEMU's block of instructions.
#[repr(C)]
struct TranslationBlock(c_int);
/// QEMU's instruction.
#[repr(C)]
struct Instruction(c_int);

/// The callback reads no registers.
const NO_REGISTERS: c_int = 0;
/// The callback is called for loads and stores.
const LOADS_AND_STORES: c_int = 3;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, callback: TranslateCallback);
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut TranslationBlock,
        callback: ExecuteCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: ExecuteCallback,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: AccessCallback,
        flags: c_int,
        accesses: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_atexit_cb(id: Id, callback: ExitCallback, data: *mut c_void);
    fn qemu_plugin_tb_n_insns(block: *const TranslationBlock) -> usize;
    fn qemu_plugin_tb_vaddr(block: *const TranslationBlock) -> u64;
    fn qemu_plugin_tb_get_insn(block: *const TranslationBlock, at: usize) -> *mut Instruction;
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const u8;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    fn qemu_plugin_mem_is_store(access: u32) -> bool;
}

/// The version of the interface.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static qemu_plugin_version: c_int = 1;

struct State {
    calls: Calls,
    output: BufWriter<File>,
}

/// One CPU executes one block at a time, so nobody waits for this.
static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by QEMU when it has loaded the plugin, with the argument `out=FILE`. Returns 0, or 1 if
/// the file cannot be made.
///
/// # Safety
/// `arguments` are `count` strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let text = |at| {
        // SAFETY: the caller passes `count` strings.
        unsafe { CStr::from_ptr(*arguments.add(at)) }.to_str().ok()
    };
    let path = (0..count).filter_map(text).find_map(|text| text.strip_prefix("out="));
    let Some(file) = path.and_then(|path| File::create(path).ok()) else {
        eprintln!("profiler: out=FILE is missing, or the file cannot be made");
        return 1;
    };
    *state() = Some(State { calls: Calls::default(), output: BufWriter::new(file) });
    // SAFETY: the functions are those that the interface asks for.
    unsafe {
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
        qemu_plugin_register_atexit_cb(id, ended, core::ptr::null_mut());
    }
    0
}

/// QEMU has translated a block: it is added, and what happens in it will be reported.
extern "C" fn translated(_id: Id, block: *mut TranslationBlock) {
    let Some(State { calls, .. }) = &mut *state() else { return };
    let (mut sizes, mut code) = (Vec::new(), Vec::new());
    // SAFETY: QEMU passes a block, which is valid during this call, as are its instructions and
    // their bytes.
    unsafe {
        let count = qemu_plugin_tb_n_insns(block);
        for at in 0..count {
            let instruction = qemu_plugin_tb_get_insn(block, at);
            let size = qemu_plugin_insn_size(instruction);
            let bytes = core::slice::from_raw_parts(qemu_plugin_insn_data(instruction), size);
            sizes.push(u8::try_from(size).unwrap_or(u8::MAX));
            code.extend_from_slice(bytes);
            if let Some(mark) = mark(bytes) {
                let data = usize::from(mark) as *mut c_void;
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, marked, NO_REGISTERS, data);
            }
            let callback: Option<AccessCallback> = match last_opcode(bytes) {
                _ if at + 1 < count => None,
                Opcode::Call => Some(called),
                Opcode::Return => Some(returned),
                Opcode::Other => None,
            };
            if let Some(callback) = callback {
                let (flags, which) = (NO_REGISTERS, LOADS_AND_STORES);
                let data = core::ptr::null_mut();
                qemu_plugin_register_vcpu_mem_cb(instruction, callback, flags, which, data);
            }
        }
        let address = qemu_plugin_tb_vaddr(block);
        let number = calls.add(Block { address, sizes, code });
        let data = number as usize as *mut c_void;
        qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, data);
    }
}

extern "C" fn executed(_cpu: c_uint, number: *mut c_void) {
    if let Some(State { calls, .. }) = &mut *state() {
        calls.execute(number as usize as u32);
    }
}

extern "C" fn called(_cpu: c_uint, access: u32, address: u64, _data: *mut c_void) {
    // SAFETY: asks about the access that is reported. A call through memory loads as well.
    if unsafe { qemu_plugin_mem_is_store(access) } {
        transfer(Transfer::Call(address));
    }
}

extern "C" fn returned(_cpu: c_uint, access: u32, address: u64, _data: *mut c_void) {
    // SAFETY: as above.
    if !unsafe { qemu_plugin_mem_is_store(access) } {
        transfer(Transfer::Return(address));
    }
}

fn transfer(transfer: Transfer) {
    if let Some(State { calls, .. }) = &mut *state() {
        calls.transfer(transfer);
    }
}

extern "C" fn marked(_cpu: c_uint, mark: *mut c_void) {
    if let Some(State { calls, .. }) = &mut *state() {
        calls.count(mark as usize == 1);
    }
}

extern "C" fn ended(_id: Id, _data: *mut c_void) {
    if let Some(State { calls, output }) = &mut *state()
        && let Err(error) = calls.write(output).and_then(|()| output.flush())
    {
        eprintln!("profiler: {error}");
    }
}

/// The number in a mark, a no-op with an operand that nothing else has: 1 begins, 2 ends.
fn mark(instruction: &[u8]) -> Option<u8> {
    match instruction {
        [0x0f, 0x1f, 0x80, number, 0x40, 0x07, 0x51] => Some(*number),
        _ => None,
    }
}

enum Opcode {
    Call,
    Return,
    Other,
}

/// What an instruction does, behind its prefixes.
fn last_opcode(instruction: &[u8]) -> Opcode {
    let is_prefix = |byte: &&u8| matches!(**byte, 0x40..=0x4f | 0x66 | 0x2e | 0x3e | 0xf2 | 0xf3);
    let prefixes = instruction.iter().take_while(is_prefix).count();
    match instruction.get(prefixes..).unwrap_or_default() {
        [0xe8, ..] => Opcode::Call,
        [0xff, operand, ..] if operand >> 3 & 7 == 2 => Opcode::Call,
        [0xc2 | 0xc3, ..] => Opcode::Return,
        _ => Opcode::Other,
    }
}
