//! Entry and exit of the loader: from 32-bit PVH mode into Rust, and from Rust into the kernel.
//!
//! The first page tables are in the file (identity mapping of 4 GiB with 2 MiB pages), because
//! loading them is cheaper than filling them in. The page `trampoline` holds the jump and the
//! descriptor table. It is the only page that the kernel's page tables share with the loader's, and
//! it is read-only there, so the accessed bits of its descriptors are set from the start.

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
    /// The page with the jump; also a function, see [`jump`].
    static trampoline: u8;
    /// The top-level table that the loader runs on.
    static early_pml4: u8;
    /// The end of the loader in memory; a symbol of the linker.
    static _end: u8;
}

/// The physical address of the page with the jump.
pub fn trampoline_address() -> u64 {
    &raw const trampoline as u64
}

/// The physical address of the top-level table that the loader runs on.
pub fn early_pml4_address() -> u64 {
    &raw const early_pml4 as u64
}

/// The first physical address after the loader's image, which includes its stack.
pub fn image_end() -> u64 {
    &raw const _end as u64
}

/// The initial state of the kernel.
pub struct Jump {
    /// The virtual address of the boot information.
    pub boot_info: u64,
    /// The end of the kernel's stack, 16-byte aligned.
    pub stack_top: u64,
    /// The physical address of the kernel's top-level table.
    pub page_table: u64,
    /// The virtual address of the kernel's first instruction.
    pub entry: u64,
}

/// Leaves the loader for good.
///
/// # Safety
/// `page_table` maps the trampoline's page, the stack, the boot information and the kernel, and
/// the boot information is complete.
pub unsafe fn jump(to: &Jump) -> ! {
    // SAFETY: the code at `trampoline` takes these four arguments and does not return. The caller
    // promises the rest.
    unsafe {
        let go: extern "C" fn(u64, u64, u64, u64) -> ! =
            core::mem::transmute(&raw const trampoline);
        go(to.boot_info, to.stack_top, to.page_table, to.entry)
    }
}
