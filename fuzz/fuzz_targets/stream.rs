//! What Redis hands out to a recovery, raw and with its checksums made right: what is promised is in
//! `berth_engine::testing::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    berth_engine::testing::decoders::stream(data);
});
