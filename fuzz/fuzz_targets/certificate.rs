//! What anybody may show to be verified: whatever the bytes are, they are judged, and without a trusted key never taken.
#![no_main]

use berth_programme::certificates::{PublicKeys, verify};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let refused = verify(data, &PublicKeys::default(), &(), jiff::Timestamp::UNIX_EPOCH).expect_err("nobody is trusted");
    assert!(["malformed", "unknown_key"].contains(&refused.code()), "{refused}");
});
