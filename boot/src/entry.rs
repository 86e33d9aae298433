//! The first and the last instructions: from 32-bit PVH into Rust, and from here into the kernel.
//!
//! The first page tables lie ready in the file (identity, 4 GiB, 2 MiB pages): filling them in
//! would cost more than loading them. The page `trampoline` holds the jump and the descriptor
//! table; it is the only one that the kernel's page tables share with ours, read-only, so its
//! descriptors carry their accessed bits from the start.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18                      # name bytes, descriptor bytes, PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start

    .section .text.pvh, "ax"
    .code32
    .global pvh_start
pvh_start:
    cld
    movl %cr4, %eax
    orl $0x20, %eax                     # PAE
    movl %eax, %cr4
    movl $early_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER
    rdmsr
    orl $0x900, %eax                    # LME, NXE
    wrmsr
    movl %cr0, %eax
    orl $0x80010000, %eax               # PG, WP
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $loader_stack_top, %esp
    xorl %ebp, %ebp
    movl %ebx, %edi                     # the start_info
    call loader_main
    ud2

    # (boot_info, stack_top, page_table, kernel): no return
    .section .text.trampoline, "ax"
    .balign 4096
    .global trampoline
trampoline:
    movq %rdx, %cr3
    movq %rsi, %rsp
    pushq $0                            # the return address that the kernel's entry never uses
    xorl %ebp, %ebp
    jmpq *%rcx
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .quad gdt
    .balign 4096, 0xcc

    .section .data.early_tables, "aw"
    .balign 4096
    .global early_pml4
early_pml4:
    .quad early_pdpt + 3
    .fill 511, 8, 0
early_pdpt:
    .quad early_pd + 0x0003
    .quad early_pd + 0x1003
    .quad early_pd + 0x2003
    .quad early_pd + 0x3003
    .fill 508, 8, 0
early_pd:
    .set address, 0x83                  # present, writable, 2 MiB
    .rept 2048
    .quad address
    .set address, address + 0x200000
    .endr

    .section .bss.loader_stack, "aw", @nobits
    .balign 16
    .skip 65536
loader_stack_top:
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    /// The page that makes the jump; also a function, see [`jump`].
    static trampoline: u8;
    /// The top-level table that the loader runs on.
    static early_pml4: u8;
    /// The linker's name for the end of the loader in memory.
    static _end: u8;
}

/// The physical address of the page that makes the jump.
pub fn trampoline_address() -> u64 {
    &raw const trampoline as u64
}

/// The physical address of the top-level table that the loader runs on.
pub fn early_pml4_address() -> u64 {
    &raw const early_pml4 as u64
}

/// The first physical address behind the loader's image, stack included.
pub fn image_end() -> u64 {
    &raw const _end as u64
}

/// Where and with what the kernel starts.
pub struct Jump {
    /// The virtual address of the boot information.
    pub boot_info: u64,
    /// The end of the kernel's stack, 16-byte aligned.
    pub stack_top: u64,
    /// The physical address of the kernel's top-level table.
    pub page_table: u64,
    /// The kernel's entry.
    pub entry: u64,
}

/// Leaves the loader for good.
///
/// # Safety
/// `page_table` maps the trampoline's page, the stack, the boot information and the kernel, and
/// the boot information is complete.
pub unsafe fn jump(to: &Jump) -> ! {
    // SAFETY: the code at `trampoline` takes these four arguments and does not return; the rest
    // is the caller's promise.
    unsafe {
        let go: extern "C" fn(u64, u64, u64, u64) -> ! =
            core::mem::transmute(&raw const trampoline);
        go(to.boot_info, to.stack_top, to.page_table, to.entry)
    }
}
