//! The decoders of the message protocol. Decoded values must encode to the same bytes.

use fsproto::dirent::{DirEntries, valid_name};
use fsproto::{
    Allocate, ByteRange, CloneRange, Close, CountSpace, GetAttr, GetStatFs, HEADER_BYTES, Header,
    Hello, Hole, Invalidate, Lease, Link, ListHoles, MAX_HOLES, MAX_PAYLOAD, MAX_RANGES, MakeDir,
    MakeSymlink, Nothing, Op, Open, Operation, Path, Piece, Read, ReadAt, ReadDir, ReadLink,
    ReadRanges, Recall, Reclaim, Records, Remove, Rename, Request, SetAttr, Snapshot, Stat, Sync,
    Write,
};

/// The first 128 bytes, padded with zeros, and the rest.
fn split(data: &[u8]) -> ([u8; HEADER_BYTES], &[u8]) {
    let mut header = [0; HEADER_BYTES];
    let used = data.len().min(HEADER_BYTES);
    header[..used].copy_from_slice(&data[..used]);
    (header, &data[used..])
}

/// The fields that all messages have.
pub fn header(data: &[u8]) {
    let (bytes, _) = split(data);
    if let Ok((header, _)) = Header::decode(&bytes) {
        let again = header.encode(&Nothing {});
        // Unknown flags are dropped; all other fields stay the same.
        let (same, _) = Header::decode(&again).expect("what was encoded decodes");
        assert_eq!(same, header);
        assert!(header.payload_bytes as usize <= MAX_PAYLOAD);
    }
}

/// The fields of a request.
pub fn request(data: &[u8]) {
    let (bytes, _) = split(data);
    let Ok((header, mut fields)) = Header::decode(&bytes) else { return };
    let decoded = Request::decode(header.op, &mut fields);
    assert!(Op::from_number(header.op).is_some() || decoded.is_err());
}

macro_rules! replies {
    ($op:expr, $fields:expr, $tag:expr, $($name:ident)*) => {
        match $op {
            $(Op::$name => {
                if let Ok(reply) = $name::decode_reply(&mut $fields.clone()) {
                    let again = $name::reply($tag, &reply, 0);
                    let (_, mut fields) = Header::decode(&again).expect("what was encoded decodes");
                    assert_eq!($name::decode_reply(&mut fields), Ok(reply));
                }
            })*
        }
    };
}

/// The fields of a reply.
pub fn reply(data: &[u8]) {
    let (bytes, _) = split(data);
    let Ok((header, fields)) = Header::decode(&bytes) else { return };
    let Some(op) = Op::from_number(header.op) else { return };
    replies!(op, fields, header.tag,
        Hello Open Close GetAttr Stat SetAttr Read Write Snapshot ReadDir MakeDir Remove Rename
        Link MakeSymlink ReadLink GetStatFs Sync ListHoles Allocate CloneRange Reclaim Recall
        Lease Invalidate ReadAt ReadRanges CountSpace);
}

/// The list of a write's pieces.
pub fn pieces(data: &[u8]) {
    if let Ok(pieces) = Records::<Piece>::decode(data, MAX_HOLES) {
        let again: Vec<u8> = pieces.flat_map(|piece| piece.to_bytes()).collect();
        assert_eq!(again, data);
    }
}

/// The list of ranges to read.
pub fn ranges(data: &[u8]) {
    if let Ok(ranges) = Records::<ByteRange>::decode(data, MAX_RANGES) {
        let again: Vec<u8> = ranges.flat_map(|range| range.to_bytes()).collect();
        assert_eq!(again, data);
    }
}

/// A list of holes.
pub fn holes(data: &[u8]) {
    if let Ok(holes) = Records::<Hole>::decode(data, MAX_HOLES) {
        let again: Vec<u8> = holes.flat_map(|hole| hole.to_bytes()).collect();
        assert_eq!(again, data);
    }
}

/// The entries of a directory.
pub fn dirents(data: &[u8]) {
    for entry in DirEntries::new(data).map_while(Result::ok) {
        assert!(valid_name(entry.name) && entry.next != 0);
    }
}

/// A path of a request.
pub fn path(data: &[u8]) {
    if let Ok(path) = Path::new(data) {
        assert_eq!(path.bytes(), data);
        for component in path.components() {
            assert!(valid_name(component.name));
            assert!(data[..component.end].ends_with(component.name));
            assert_eq!(component.is_last, component.end == data.len());
        }
    }
}
