//! scratchfs, through its messages.

mod common;

use common::device::Device;
use common::*;
use foundation::{ByteCount, Errno, PAGE_BYTES};
use fsproto::*;
use fsserver::scratchfs::Scratchfs;

const TEMPORARY: OpenFlags =
    OpenFlags::READ.union(OpenFlags::WRITE).union(OpenFlags::CREATE).union(OpenFlags::UNNAMED);

#[test]
fn q3_temporary_files_are_what_arrays_are() {
    const BYTES: usize = 100_000;
    let server = shared(Scratchfs::new(Device::new(60)).unwrap());
    let mut files = Files::of(&server);
    let handles = [0, 1].map(|_| files.open("", TEMPORARY).unwrap().0);
    let mut models = [vec![], vec![]];
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for step in 0..3000 {
        let which = next(2);
        let (handle, model) = (handles[which], &mut models[which]);
        let aligned = next(2) == 0;
        let place = |at: usize| if aligned { at & !4095 } else { at };
        let (start, end) = (place(next(BYTES)), place(next(BYTES)));
        let (start, length) = (start.min(end), start.abs_diff(end));
        match next(4) {
            0 if length > 0 => {
                let bytes = pattern(step, length);
                let written = files.write(handle, start as u64, &bytes).unwrap();
                assert_eq!(written.length, ByteCount(length as u64));
                model.resize(model.len().max(start + length), 0);
                model[start..start + length].copy_from_slice(&bytes);
            }
            1 if length > 0 => {
                files.punch(handle, start as u64, length as u64).unwrap();
                let end = model.len().min(start + length);
                model[start.min(end)..end].fill(0);
            }
            2 => {
                files.truncate(handle, start as u64).unwrap();
                model.resize(start, 0);
            }
            _ => assert_eq!(
                files.read(handle, start as u64, length).unwrap(),
                model[start.min(model.len())..model.len().min(start + length)]
            ),
        }
        assert_eq!(files.read_all(handle).unwrap(), *model, "step {step}");
    }
    for (handle, model) in handles.into_iter().zip(&models) {
        let (listed, holes) = files
            .0
            .list_holes(&ListHoles { handle, offset: 0, length: ByteCount(u64::MAX) })
            .unwrap();
        assert_eq!(listed.holes_end, model.len() as u64);
        assert!(holes.iter().all(|hole| {
            model[hole.offset as usize..][..hole.length.to_usize()].iter().all(|&byte| byte == 0)
        }));
        files.close(handle).unwrap();
    }
    assert_eq!(files.store().blocks_free, 60);
}

#[test]
fn q3_a_full_device_refuses_and_keeps_what_it_has() {
    let server = shared(Scratchfs::new(Device::new(4)).unwrap());
    let mut files = Files::of(&server);
    let (handle, _) = files.open("", TEMPORARY).unwrap();
    let bytes = pattern(1, 3 * PAGE_BYTES);
    files.write(handle, 0, &bytes).unwrap();
    assert_eq!(
        files.write(handle, 10 * PAGE_BYTES as u64, &bytes).unwrap().length,
        ByteCount(PAGE_BYTES as u64),
        "as far as it goes"
    );
    assert_eq!(files.write(handle, 20 * PAGE_BYTES as u64, &bytes), Err(Errno::ENOSPC));
    files.write(handle, 0, &bytes).unwrap();
    files.punch(handle, 10 * PAGE_BYTES as u64, 5000).unwrap();
    files.write(handle, 20 * PAGE_BYTES as u64, &[1]).unwrap();
    assert_eq!(files.read(handle, 0, bytes.len()).unwrap(), bytes);
    assert_eq!(files.read(handle, 20 * PAGE_BYTES as u64, 100).unwrap(), [1]);
}

#[test]
fn q3_there_are_no_names() {
    let server = shared(Scratchfs::new(Device::new(4)).unwrap());
    let mut files = Files::of(&server);
    assert_eq!(files.open("a", CREATE).map(drop), Err(Errno::EPERM));
    assert_eq!(files.open("a", OpenFlags::READ).map(drop), Err(Errno::ENOENT));
    assert_eq!(files.stat("").map(|attr| attr.kind), Ok(FileKind::Directory));
}

#[test]
fn q4_open_files_are_bounded() {
    let server = shared(Scratchfs::new(Device::new(4)).unwrap());
    let mut files = Files::of(&server);
    let handles: Vec<Handle> =
        std::iter::from_fn(|| Some(files.open("", TEMPORARY).ok()?.0)).collect();
    assert_eq!(handles.len(), 1024);
    assert_eq!(files.open("", TEMPORARY).map(drop), Err(Errno::ENFILE));
    files.close(handles[500]).unwrap();
    assert!(files.open("", TEMPORARY).is_ok());
}
