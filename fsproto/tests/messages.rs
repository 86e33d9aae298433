//! Encodes and decodes every message, and runs every decoder on arbitrary bytes.

use foundation::{ByteCount, Errno, SnapshotOffset};
use fsproto::dirent::{DirEntries, DirEntry, valid_name};
use fsproto::*;
use proptest::prelude::*;

/// Calls a macro with the names of all operations.
macro_rules! for_all_operations {
    ($call:ident) => {
        $call!(
            Hello,
            Open,
            Close,
            GetAttr,
            Stat,
            SetAttr,
            Read,
            Write,
            Snapshot,
            ReadDir,
            MakeDir,
            Remove,
            Rename,
            Link,
            MakeSymlink,
            ReadLink,
            GetStatFs,
            Sync,
            ListHoles,
            Allocate,
            CloneRange,
            Reclaim,
            Recall,
            Lease,
            Invalidate,
            ReadAt,
            ReadRanges,
            CountSpace
        )
    };
}

/// Small, arbitrary and extreme numbers.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..16, any::<u64>(), Just(u64::MAX), Just(i64::MAX as u64)]
}

/// A header in which some fields are not zero. Enumerations and flags decode only known values, so
/// small numbers are frequent.
fn fields() -> impl Strategy<Value = [u8; HEADER_BYTES]> {
    let edit =
        (0_usize..HEADER_BYTES, prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)], number());
    prop::collection::vec(edit, 0..6).prop_map(|edits| {
        let mut header = [0; HEADER_BYTES];
        for (at, width, number) in edits {
            let at = at / width * width;
            header[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
        }
        header
    })
}

/// A request that decodes is encoded to the same bytes.
fn request_round_trip<O: Operation + Copy + PartialEq + std::fmt::Debug>(
    fields: &[u8; HEADER_BYTES],
    base: &O,
) -> Result<bool, TestCaseError> {
    let tag = Tag(0x1234_5678);
    // The operation's header, changed where `fields` is not zero.
    let mut header = base.request(tag, 77);
    for (byte, change) in header.iter_mut().zip(fields).skip(16) {
        *byte ^= change;
    }
    let used = 16 + O::BYTES;
    header[used..].fill(0);
    let (decoded, mut reader) = Header::decode(&header).unwrap();
    prop_assert_eq!(
        (decoded.tag, decoded.op, decoded.payload_bytes, decoded.status),
        (tag, O::OP as u16, 77, 0)
    );
    prop_assert_eq!(decoded.flags.contains(HeaderFlags::FROM_SERVER), O::OP.from_server());
    let whole = Request::decode(decoded.op, &mut reader.clone());
    let Ok(request) = O::get(&mut reader) else {
        prop_assert_eq!(whole, Err(Malformed));
        return Ok(false);
    };
    prop_assert!(whole.is_ok());
    prop_assert_eq!(request.request(tag, 77), header);
    Ok(true)
}

/// Encodes and decodes the fields of a reply.
fn reply_round_trip<O: Operation>(fields: &[u8; HEADER_BYTES]) -> Result<bool, TestCaseError> {
    let mut header = O::reply(Tag(9), &O::Reply::default(), 0);
    for (byte, change) in header.iter_mut().zip(fields).skip(16) {
        *byte ^= change;
    }
    header[16 + <O::Reply as Field>::BYTES..].fill(0);
    let (decoded, mut reader) = Header::decode(&header).unwrap();
    prop_assert!(decoded.flags.contains(HeaderFlags::REPLY));
    prop_assert_eq!(decoded.result(), Ok(()));
    let Ok(reply) = O::decode_reply(&mut reader) else { return Ok(false) };
    prop_assert_eq!(O::reply(Tag(9), &reply, 0), header);
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_round_trips(fields in fields()) {
        macro_rules! check {
            ($($operation:ident),*) => {$(
                request_round_trip(&fields, &$operation::default())?;
                reply_round_trip::<$operation>(&fields)?;
            )*};
        }
        for_all_operations!(check);
    }

    #[test]
    fn x5_no_header_makes_a_decoder_panic(
        quarters in prop::array::uniform4(prop::array::uniform32(any::<u8>())),
        op in 0_u16..40,
    ) {
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&quarters.concat());
        if let Ok((decoded, mut reader)) = Header::decode(&header) {
            prop_assert!(decoded.payload_bytes as usize <= MAX_PAYLOAD);
            let _ = Request::decode(decoded.op, &mut reader);
        }
        let mut reader = Reader::new(&header[..usize::from(op) * 3]);
        let _ = Request::decode(op, &mut reader);
        macro_rules! check {
            ($($operation:ident),*) => {$(
                let _ = $operation::decode_reply(&mut Reader::new(&header));
            )*};
        }
        for_all_operations!(check);
    }

    #[test]
    fn lists_round_trip(
        records in prop::collection::vec((number(), number(), number()), 0..MAX_HOLES),
    ) {
        let piece = |&(a, b, c): &(u64, u64, u64)| Piece {
            snapshot: Handle(a),
            offset: SnapshotOffset(b),
            length: ByteCount(c),
        };
        let pieces: Vec<Piece> = records.iter().map(piece).collect();
        let bytes: Vec<u8> = pieces.iter().flat_map(Piece::to_bytes).collect();
        let decoded: Vec<Piece> = Records::decode(&bytes, MAX_PIECES).unwrap().collect();
        prop_assert_eq!(&decoded, &pieces);
        if !pieces.is_empty() {
            prop_assert!(Records::<Piece>::decode(&bytes, pieces.len() - 1).is_err());
            prop_assert!(Records::<Piece>::decode(&bytes[1..], MAX_PIECES).is_err());
        }
        let hole = |&(offset, length, _): &(u64, u64, u64)| Hole {
            offset,
            length: ByteCount(length),
        };
        let holes: Vec<Hole> = records.iter().map(hole).collect();
        let bytes: Vec<u8> = holes.iter().flat_map(Hole::to_bytes).collect();
        let decoded: Vec<Hole> = Records::decode(&bytes, MAX_HOLES).unwrap().collect();
        prop_assert_eq!(decoded, holes);
        let range = |&(offset, length, _): &(u64, u64, u64)| ByteRange {
            offset,
            length: length as u32,
        };
        let ranges: Vec<ByteRange> = records.iter().map(range).collect();
        let bytes: Vec<u8> = ranges.iter().flat_map(ByteRange::to_bytes).collect();
        let decoded: Vec<ByteRange> = Records::decode(&bytes, MAX_RANGES).unwrap().collect();
        prop_assert_eq!(decoded, ranges);
    }

    #[test]
    fn directory_entries_round_trip(
        names in prop::collection::vec("[a-z.é]{1,80}", 0..20),
        space in 0_usize..2000,
    ) {
        let entries: Vec<DirEntry> = names
            .iter()
            .filter(|name| valid_name(name.as_bytes()))
            .zip(1..)
            .map(|(name, next)| DirEntry {
                id: FileId(next * 7),
                next,
                kind: FileKind::Symlink,
                name: name.as_bytes(),
            })
            .collect();
        let mut bytes = vec![0; space];
        let mut writer = Writer::new(&mut bytes);
        let written = entries.iter().take_while(|entry| entry.encode(&mut writer).is_ok()).count();
        let used = writer.used();
        let read: Result<Vec<DirEntry>, Malformed> = DirEntries::new(&bytes[..used]).collect();
        prop_assert_eq!(read.unwrap(), &entries[..written]);
    }

    #[test]
    fn x5_no_payload_makes_a_decoder_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        max in 0_usize..40,
    ) {
        for entry in DirEntries::new(&bytes).flatten() {
            prop_assert!(valid_name(entry.name) && entry.next != 0);
        }
        // The iterator ends after an error.
        let errors = DirEntries::new(&bytes).filter(Result::is_err).count();
        prop_assert!(errors <= 1);
        if let Ok(pieces) = Records::<Piece>::decode(&bytes, max) {
            prop_assert!(pieces.count() <= max);
        }
        if let Ok(holes) = Records::<Hole>::decode(&bytes, max) {
            prop_assert!(holes.count() <= max);
        }
        if let Ok(ranges) = Records::<ByteRange>::decode(&bytes, max) {
            prop_assert!(ranges.count() <= max);
        }
        if let Ok(path) = Path::new(&bytes) {
            prop_assert!(path.components().all(|component| valid_name(component.name)));
            let joined: Vec<&[u8]> = path.components().map(|component| component.name).collect();
            prop_assert_eq!(joined.join(&b'/'), bytes);
        }
    }
}

#[test]
fn every_operation_decodes_with_nonzero_fields() {
    // Makes sure that the round trips above cover more than default values.
    macro_rules! check {
        ($($operation:ident),*) => {$(
            for byte in (0..$operation::BYTES).map(|byte| 16 + byte) {
                let mut change = [0; HEADER_BYTES];
                change[byte] = 1;
                let decodes = request_round_trip(&change, &$operation::default()).unwrap();
                let name = stringify!($operation);
                assert!(decodes || name == "Open" || has_flags(name), "{name} byte {byte}");
            }
        )*};
    }
    fn has_flags(name: &str) -> bool {
        ["Allocate", "Hello", "Stat", "SetAttr", "Write", "Remove", "Rename"].contains(&name)
    }
    for_all_operations!(check);
}

#[test]
fn operation_numbers_are_stable() {
    for (index, op) in Op::ALL.iter().enumerate() {
        assert_eq!(*op as usize, index + 1);
        assert_eq!(Op::from_number(*op as u16), Some(*op));
    }
    assert_eq!(Op::ALL.len(), 28);
    assert_eq!((Op::from_number(0), Op::from_number(29)), (None, None));
}

#[test]
fn a_direct_message_is_marked() {
    let mut header = GetStatFs {}.request(Tag(1), 0);
    assert!(!is_direct(&header));
    mark_direct(&mut header);
    let (decoded, _) = Header::decode(&header).unwrap();
    assert!(is_direct(&header) && decoded.flags == HeaderFlags::DIRECT);
    // The mark says nothing about the rest.
    assert!(is_direct(&[0xff; HEADER_BYTES]));
}

#[test]
fn a_request_closes_handles_besides() {
    let request = Close { handle: Handle(77) };
    let plain = request.request(Tag(1), 0);
    assert_eq!(closes(&plain).count(), 0);
    for count in 0..=MAX_CLOSES {
        let handles: Vec<Handle> = (0..count as u64).map(|index| Handle(index << 56 | 5)).collect();
        let mut header = plain;
        add_closes(&mut header, &handles);
        let (decoded, mut fields) = Header::decode(&header).unwrap();
        assert_eq!(usize::from(decoded.closes), count);
        assert!(closes(&header).eq(handles));
        assert_eq!(Request::decode(decoded.op, &mut fields), Ok(Request::Close(request)));
    }
    // A reply closes nothing.
    let mut reply = Close::reply(Tag(1), &Nothing {}, 0);
    add_closes(&mut reply, &[Handle(1)]);
    assert_eq!(Header::decode(&reply).map(drop), Err(Malformed));
    // Fields and handles do not overlap.
    assert_eq!(<Close as Operation>::CLOSES, MAX_CLOSES);
    let space = HEADER_BYTES - Header::BYTES - SetAttr::BYTES;
    assert_eq!(<SetAttr as Operation>::CLOSES, (space / 8).min(MAX_CLOSES));
}

#[test]
fn values_past_a_limit_are_malformed() {
    let good = GetStatFs {}.request(Tag(1), MAX_PAYLOAD);
    assert!(Header::decode(&good).is_ok());
    assert_eq!(
        Header::decode(&GetStatFs {}.request(Tag(1), MAX_PAYLOAD + 1)).map(drop),
        Err(Malformed)
    );
    for (at, value) in [(10, 8), (11, 1), (13, 0x10), (14, MAX_CLOSES as u8 + 1), (15, 1)] {
        let mut bad = good;
        bad[at] = value;
        assert_eq!(Header::decode(&bad).map(drop), Err(Malformed), "byte {at}");
    }
    let failed = error_reply(7, Tag(3), Errno::ENOSPC);
    let (header, _) = Header::decode(&failed).unwrap();
    assert_eq!((header.tag, header.op, header.result()), (Tag(3), 7, Err(Errno::ENOSPC)));
    assert_eq!(Errno::ENOSPC.text(), "No space left on device");
    assert_eq!(Errno(4000).text(), "Unknown error");
}

#[test]
fn every_mutant_has_one_name() {
    use foundation::mutant::Mutant;
    for mutant in Mutant::ALL {
        assert_eq!(Mutant::from_name(mutant.name()), Some(*mutant));
    }
    assert_eq!(Mutant::from_name("no-such"), None);
}
