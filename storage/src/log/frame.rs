//! The format of a log segment. All integers are little-endian.
//!
//! ```text
//! segment = header frame* seal zero*          the last one in use has no seal
//! seal    = a frame of kind 0 without payload
//! header  = magic "EDDYLOG\n" (8) | version (4) | segment number (8) | crc32 of the 20 bytes before (4)
//! frame   = marker (4) | payload length (4) | crc32 (4) | synced (4) | kind (1) | payload
//! ```
//!
//! `synced` is how much of this segment was durable when the frame was written. It separates the two ways a frame can
//! be unreadable: the disk may persist the pages of one unsynced write in any order, so a bad frame followed by
//! good ones of the same write is a torn tail; a bad frame followed by one that was written after it had become
//! durable is damage. The crc covers the frame's own place in the log too, so that bytes of a frame found
//! anywhere else (in a payload, in a recycled block) are not taken for one.

use std::ops::Range;

/// Version 1 had neither seals nor zeros.
pub(super) const VERSION: u32 = 2;
/// The kind of the frame that ends a segment.
pub(super) const SEAL: u8 = 0;
pub(super) const SEGMENT_HEADER_BYTES: u64 = 24;
pub(super) const FRAME_HEADER_BYTES: usize = 17;
/// Bounds what recovery allocates for one frame; far above any statement.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const MAGIC: [u8; 8] = *b"EDDYLOG\n";
const MARKER: [u8; 4] = [0xED, 0xD7, 0x11, 0x9E];

/// What the first bytes of a segment say.
pub(super) enum Header {
    Valid,
    Damaged,
    OtherVersion(u32),
}

pub(super) fn segment_header(segment: u64) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    header_of_version(segment, VERSION)
}

pub(super) fn header_of_version(segment: u64, version: u32) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn check_header(bytes: &[u8], segment: u64) -> Header {
    let Some(header) = bytes.get(..SEGMENT_HEADER_BYTES as usize) else { return Header::Damaged };
    let version = u32_at(header, 8);
    if header != header_of_version(segment, version) {
        return Header::Damaged;
    }
    if (1..=VERSION).contains(&version) { Header::Valid } else { Header::OtherVersion(version) }
}

/// Adds a frame to `buffer`. Its crc and `synced` are filled in by [`stamp`] when it is written.
pub(super) fn encode(buffer: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    buffer.reserve(FRAME_HEADER_BYTES + payload.len());
    buffer.extend_from_slice(&MARKER);
    buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&[0; 8]);
    buffer.push(kind);
    buffer.extend_from_slice(payload);
}

/// Completes the encoded frames in `bytes`, which start at `offset` of `segment`.
pub(super) fn stamp(bytes: &mut [u8], segment: u64, offset: u64, synced: u64) {
    let mut at = 0;
    while at < bytes.len() {
        let end = at + FRAME_HEADER_BYTES + u32_at(bytes, at + 4) as usize;
        bytes[at + 12..at + 16].copy_from_slice(&(synced as u32).to_le_bytes());
        let crc = checksum(&bytes[at..end], segment, offset + at as u64);
        bytes[at + 8..at + 12].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// A valid frame inside a segment's bytes.
pub(super) struct Parsed {
    pub kind: u8,
    pub synced: u64,
    pub payload: Range<usize>,
}

/// The frame at `offset` of a segment's bytes, or `None` if there is no valid one.
pub(super) fn parse(bytes: &[u8], segment: u64, offset: usize) -> Option<Parsed> {
    let header = bytes.get(offset..offset + FRAME_HEADER_BYTES)?;
    let length = u32_at(header, 4) as usize;
    if header[..4] != MARKER || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = offset + FRAME_HEADER_BYTES..offset + FRAME_HEADER_BYTES + length;
    let frame = bytes.get(offset..payload.end)?;
    let valid = checksum(frame, segment, offset as u64) == u32_at(header, 8);
    valid.then(|| Parsed { kind: header[16], synced: u32_at(header, 12) as u64, payload })
}

/// The next place after `offset` where a frame might start.
pub(super) fn find_marker(bytes: &[u8], offset: usize) -> Option<usize> {
    let rest = bytes.get(offset..)?;
    rest.windows(MARKER.len()).position(|window| window == MARKER).map(|found| offset + found)
}

fn checksum(frame: &[u8], segment: u64, offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&frame[4..8]);
    crc.update(&frame[12..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
