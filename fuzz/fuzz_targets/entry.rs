//! One journal entry: what the decoder promises is in `berth_engine::testing::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    berth_engine::testing::decoders::entry(data);
});
