//! Descriptor tables.

use super::*;

fn file() -> Descriptor {
    // What is charged must fit into memory.
    mem::host::init();
    let (read, _) = crate::file::pipe::pipe();
    Descriptor {
        file: OpenFile::nameless(read, Status::READ, &Account::new()).unwrap(),
        on_exec: OnExec::Keep,
    }
}

#[test]
fn the_lowest_free_descriptor_is_used() {
    let mut table = FdTable::new();
    let numbers: Vec<_> =
        (0..4).map(|_| table.insert(file(), 0..MAX_DESCRIPTORS).unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3].map(Fd));
    table.remove(Fd(1)).unwrap();
    assert_eq!(table.insert(file(), 0..MAX_DESCRIPTORS), Ok(Fd(1)));
    assert_eq!(table.insert(file(), 10..MAX_DESCRIPTORS), Ok(Fd(10)));
    assert_eq!(table.insert(file(), 2..MAX_DESCRIPTORS), Ok(Fd(4)));
}

#[test]
fn closed_and_invalid_descriptors_are_ebadf() {
    let mut table = FdTable::new();
    table.insert(file(), 0..MAX_DESCRIPTORS).unwrap();
    for fd in [-1, 1, i32::MAX, i32::MIN].map(Fd) {
        assert_eq!(table.get(fd).err(), Some(Errno::EBADF));
        assert_eq!(table.remove(fd).err(), Some(Errno::EBADF));
        assert_eq!(table.set_on_exec(fd, OnExec::Close), Err(Errno::EBADF));
    }
    let beyond = Fd(MAX_DESCRIPTORS as i32);
    assert_eq!(table.replace(beyond, file(), usize::MAX).err(), Some(Errno::EBADF));
    assert_eq!(table.replace(Fd(5), file(), 5).err(), Some(Errno::EBADF));
    assert_eq!(table.insert(file(), MAX_DESCRIPTORS..usize::MAX), Err(Errno::EMFILE));
}

#[test]
fn a_full_table_is_emfile() {
    let mut table = FdTable::new();
    for number in 0..MAX_DESCRIPTORS {
        assert_eq!(table.insert(file(), 0..MAX_DESCRIPTORS), Ok(Fd(number as i32)));
    }
    assert_eq!(table.insert(file(), 0..MAX_DESCRIPTORS), Err(Errno::EMFILE));
    table.remove(Fd(77)).unwrap();
    assert_eq!(table.insert(file(), 0..MAX_DESCRIPTORS), Ok(Fd(77)));
}

#[test]
fn exec_closes_marked_descriptors() {
    let mut table = FdTable::new();
    for number in 0..3 {
        assert_eq!(table.insert(file(), 0..MAX_DESCRIPTORS), Ok(Fd(number)));
    }
    table.set_on_exec(Fd(1), OnExec::Close).unwrap();
    let account = Account::new();
    let mut table = table.for_exec(&account).unwrap();
    assert!(account.total_bytes() > 0);
    assert_eq!(table.iter().map(|(fd, _)| fd).collect::<Vec<_>>(), [Fd(0), Fd(2)]);
    assert!(table.take_first(1, u32::MAX).is_some());
    assert!(table.take_first(1, u32::MAX).is_none());
    assert!(table.take_first(7, u32::MAX).is_none());
}
