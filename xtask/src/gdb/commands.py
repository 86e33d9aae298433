"""gdb's commands for a kernel that `cargo xtask run --gdb` has started.

The kernel answers itself (kernel/src/proc/inspect.rs): gdb stores a question, raises the
non-maskable interrupt, and reads the lines of the answer at a breakpoint. The page tables are read
here, from physical memory, which also works before the kernel runs.
"""

import gdb

HERE = "kernel::proc::inspect::"
PHYSICAL = "maintenance packet Qqemu.PhyMemMode:%d"


def register(name):
    return int(gdb.newest_frame().read_register(name)) & (1 << 64) - 1


def words(address, count):
    memory = bytes(gdb.selected_inferior().read_memory(address, 8 * count))
    return [int.from_bytes(memory[i : i + 8], "little") for i in range(0, len(memory), 8)]


def store(variable, value):
    name = HERE + variable
    symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    gdb.selected_inferior().write_memory(symbol.value().address, value.to_bytes(8, "little"))


def go_to(place):
    """Continues to a place, whatever else would stop the machine there or before."""
    stop = gdb.Breakpoint(place, internal=True)
    stop.silent = True
    gdb.execute("continue", to_string=True)
    stop.delete()


def ask(question, argument=0):
    """Prints the kernel's answer, and comes back to where the machine was stopped."""
    if register("cs") & 3 == 0 and register("pc") < 1 << 63:
        raise gdb.GdbError("the kernel does not run yet")
    where = register("pc")
    others = [stop for stop in gdb.breakpoints() or () if stop.enabled]
    for stop in others:
        stop.enabled = False
    try:
        store("QUESTION", ord(question))
        store("ARGUMENT", argument)
        gdb.execute("monitor nmi", to_string=True)
        while True:
            go_to(HERE + "tell")
            text, size = register("rdi"), register("rsi")
            if size == 0:
                break
            line = gdb.selected_inferior().read_memory(text, size)
            gdb.write(bytes(line).decode("utf-8", "replace") + "\n")
        go_to("*%d" % where)
    finally:
        for stop in others:
            stop.enabled = True


def command(name, question):
    """Makes a command of a function whose doc string is its help."""

    class Command(gdb.Command):
        __doc__ = question.__doc__

        def __init__(self):
            super().__init__(name, gdb.COMMAND_STATUS)

        def invoke(self, argument, from_tty):
            question(argument)

    Command()


def regions(argument):
    """regions PID: the memory of a process, and what each region is backed by."""
    if not argument.isdecimal():
        raise gdb.GdbError("regions PID")
    ask("r", int(argument))


def snapshots(argument):
    """snapshots: the live snapshots that regions refer to, with their handles on the servers."""
    ask("s")


def queues(argument):
    """queues: requests that servers have not answered, and messages that wait in sockets."""
    ask("q")


def locks(argument):
    """locks: the locks that are held, and by which threads."""
    ask("l")


def walk(argument):
    """walk ADDRESS: the entries of the page tables in use that lead to an address."""
    if not argument:
        raise gdb.GdbError("walk ADDRESS")
    if not register("cr0") >> 31:
        raise gdb.GdbError("paging is off")
    address = int(gdb.parse_and_eval(argument)) & (1 << 64) - 1
    table = register("cr3") & 0x000F_FFFF_FFFF_F000
    gdb.execute(PHYSICAL % 1, to_string=True)
    try:
        for level in (4, 3, 2, 1):
            shift = 12 + 9 * (level - 1)
            index = address >> shift & 511
            entry = words(table + 8 * index, 1)[0]
            letters = "".join(
                letter if entry >> bit & 1 else "-"
                for letter, bit in (("p", 0), ("w", 1), ("u", 2), ("a", 5), ("d", 6), ("L", 7))
            )
            letters += "-" if entry >> 63 else "x"
            gdb.write("level %d, entry %3d: %#018x %s\n" % (level, index, entry, letters))
            if not entry & 1:
                gdb.write("not mapped\n")
                return
            table = entry & 0x000F_FFFF_FFFF_F000
            if level in (2, 3) and entry >> 7 & 1:
                break
        size = 1 << shift
        gdb.write("physical %#x\n" % (table & -size | address & size - 1))
    finally:
        gdb.execute(PHYSICAL % 0, to_string=True)


try:
    # Of the toolchain, whose folder is in the path: how its own types are shown.
    import gdb_lookup

    gdb_lookup.register_printers(gdb.objfiles()[0])
except ImportError:
    pass
for function in (regions, snapshots, queues, locks, walk):
    command(function.__name__, function)
gdb.write("Sloth's commands: regions PID, snapshots, queues, locks, walk ADDRESS\n")
