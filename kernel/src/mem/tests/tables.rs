//! Page tables: who has many leaves memory to others.

use super::*;
use crate::mem::account::{self, Charge, Kind};
use crate::mem::{host::RamSwap, swap};

/// Pages of a lowest page table.
const SPAN: u64 = 512;

/// Accesses one page below each lowest table of a space, `most` of them at most, until memory is
/// short. Returns for how many.
fn touch(space: &Space, most: u64, access: Access) -> u64 {
    let refused = |&table: &u64| match space.fault(at(table * SPAN), access) {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error, FaultError::OutOfMemory, "table {table}");
            true
        }
    };
    (0..most).find(refused).unwrap_or(most)
}

#[test]
fn q4_page_tables_leave_memory_to_others() {
    let _alone = host::exclusive();
    let ceiling = account::ceiling_bytes();
    let most = 2 * (ceiling / PAGE_BYTES) as u64;
    let device = RamSwap::new();
    swap::attach(device, 2 * most as u32).unwrap();
    let space = space_of(most * SPAN);
    let tables = touch(&space, most, Access::Write);
    assert!(tables < most, "page tables have no limit");
    let left = ceiling - account::charged_bytes();
    assert!(left > ceiling / 5, "{tables} page tables leave {left} bytes of {ceiling}");
    let other = Account::new();
    let charge = Charge::take(&other, Kind::Files, 64 << 10);
    assert!(charge.is_ok(), "others are refused beside {tables} page tables");
    drop((charge, space));
    swap::detach();
}

#[test]
fn q4_page_tables_of_clean_pages_make_room() {
    let _alone = host::exclusive();
    let most = 2 * (account::ceiling_bytes() / PAGE_BYTES) as u64;
    let space = space_of(most * SPAN);
    assert_eq!(touch(&space, most, Access::Read), most);
}
