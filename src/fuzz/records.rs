//! Record batches: as they come, and behind a right header and checksum, where a fuzzer would never get by itself.

use super::split;
use crate::record::{Batch, Codec, HEADER_SIZE, Header};
use bytes::Bytes;

/// What one batch may decompress to here; small, so that a bomb shows.
const DECODED_SIZE_MAX: usize = 1 << 20;

/// Bytes of a chain of batches.
pub(super) fn batch(bytes: &[u8]) {
    let _ = Header::parse(bytes);
    if let Ok(batches) = Batch::check_chain(Bytes::copy_from_slice(bytes)) {
        batches.iter().for_each(walk);
    }
}

/// A codec, a count of records, and compressed records.
pub(super) fn codec(bytes: &[u8]) {
    let Some((codec, rest)) = split(bytes) else { return };
    let Some((count, records)) = split(rest) else { return };
    let mut batch = vec![0; HEADER_SIZE];
    batch.extend_from_slice(records);
    let size = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&size.to_be_bytes());
    batch[16] = 2;
    batch[22] = (codec % Codec::ALL.len()) as u8;
    batch[23..27].copy_from_slice(&(count.max(1) as i32 - 1).to_be_bytes());
    batch[43..57].fill(0xff);
    batch[57..61].copy_from_slice(&(count.max(1) as i32).to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let batch = Batch::check(batch.into()).expect("header and checksum are right");
    walk(&batch);
}

/// What can be read comes out of every codec again.
fn walk(batch: &Batch) {
    let Ok(records) = batch.records(DECODED_SIZE_MAX) else { return };
    assert_eq!(records.len(), batch.header().count as usize);
    for codec in Codec::ALL {
        let recoded = batch.recoded(codec, DECODED_SIZE_MAX).expect("readable records can be written again");
        // The limit is on bytes with their framing, so that what was under it stays under it.
        let again = recoded.records(2 * DECODED_SIZE_MAX).expect("our own codec reads what it wrote");
        let same = |(a, b): (&crate::record::Record, &crate::record::Record)| {
            (a.offset, a.timestamp, &a.key, &a.value, &a.headers)
                == (b.offset, b.timestamp, &b.key, &b.value, &b.headers)
        };
        assert!(again.len() == records.len() && records.iter().zip(&again).all(same), "{codec:?} changed a record");
    }
}
