//! One frame, as it lies in a segment and travels to Redis: what the decoder promises is in `berth_engine::testing::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    berth_engine::testing::decoders::frame(data);
});
