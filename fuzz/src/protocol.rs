//! The message protocol's decoders: what decodes is encoded as it was.

use fsproto::dirent::{DirEntries, valid_name};
use fsproto::*;

/// The first 128 bytes, filled up with zeros, and the rest.
fn split(data: &[u8]) -> ([u8; HEADER_BYTES], &[u8]) {
    let mut head = [0; HEADER_BYTES];
    let used = data.len().min(HEADER_BYTES);
    head[..used].copy_from_slice(&data[..used]);
    (head, &data[used..])
}

/// The part that all messages share.
pub fn head(data: &[u8]) {
    let (bytes, _) = split(data);
    if let Ok((head, _)) = Header::decode(&bytes) {
        let again = head.encode(&Nothing {});
        // Unknown flags are dropped; all else is as it was.
        let (same, _) = Header::decode(&again).expect("what was encoded decodes");
        assert_eq!(same, head);
        assert!(head.payload_bytes as usize <= MAX_PAYLOAD);
    }
}

/// A request's fields.
pub fn request(data: &[u8]) {
    let (bytes, _) = split(data);
    let Ok((head, mut fields)) = Header::decode(&bytes) else { return };
    let decoded = Request::decode(head.op, &mut fields);
    assert!(Op::from_number(head.op).is_some() || decoded.is_err());
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

/// A reply's fields.
pub fn reply(data: &[u8]) {
    let (bytes, _) = split(data);
    let Ok((head, fields)) = Header::decode(&bytes) else { return };
    let Some(op) = Op::from_number(head.op) else { return };
    replies!(op, fields, head.tag,
        Hello Open Close GetAttr Stat SetAttr Read Write Snapshot ReadDir MakeDir Remove Rename Link MakeSymlink ReadLink GetStatFs Sync ListHoles Allocate
        CloneRange Reclaim Recall Lease Invalidate);
}

/// The parts of a write.
pub fn pieces(data: &[u8]) {
    if let Ok(pieces) = Records::<Piece>::decode(data, MAX_HOLES) {
        let again: Vec<u8> = pieces.flat_map(|piece| piece.to_bytes()).collect();
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

/// Directory entries.
pub fn dirents(data: &[u8]) {
    for entry in DirEntries::new(data).map_while(Result::ok) {
        assert!(valid_name(entry.name) && entry.next != 0);
    }
}

/// A path.
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
