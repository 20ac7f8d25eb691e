//! How far Redis is behind, and when what was appended counts as there.

use super::*;

/// Bytes of the frames behind `seq` in the log.
fn bytes_behind(cell: &Cell, seq: Seq) -> u64 {
    let mut bytes = 0;
    let each = &mut |frame: &crate::journal::frame::Frame<'_>| {
        if frame.header.first > seq {
            bytes += frame.bytes.len() as u64;
        }
        Ok(())
    };
    read_directory(&cell.disk, cell.engine.cell(), Seq(0), each).unwrap();
    bytes
}

#[test]
fn the_lag_is_that_of_the_log_through_restarts_and_outages() {
    let (disk, redis) = (MemoryDisk::new(15), MemoryRedis::new(15));
    let mut cell = Cell::open(&disk, &redis);
    let shipped = cell.fill();
    assert!(cell.settle());
    let lag = |cell: &Cell| (cell.stats().lag_entries, cell.stats().lag_bytes);
    drop(cell);
    disk.restart(true);
    // What the start has found in Redis is no lag, before the shipper has had a turn.
    let mut cell = Cell::open(&disk, &redis);
    assert_eq!((cell.stats().shipped, lag(&cell)), (shipped.0, (0, 0)));
    cell.write();
    cell.write();
    assert_eq!(lag(&cell), (2, bytes_behind(&cell, shipped)));
    assert!(cell.stats().lag_nanos > 0);
    // Over several segments, with unused ends, and a Redis that cannot be asked at the start.
    redis.arm(StreamFault::Gone);
    for _ in 0..3 {
        drop(cell);
        disk.restart(true);
        cell = Cell::open(&disk, &redis);
        cell.fill();
    }
    redis.mend();
    let _ = cell.shipper.turn();
    let (entries, bytes) = (cell.engine.appended().0 - shipped.0, bytes_behind(&cell, shipped));
    assert_eq!(lag(&cell), (entries, bytes));
    let at_once = cell.shipper.turn();
    assert_eq!((at_once, lag(&cell).1), (ShipTurn::Shipped, bytes_behind(&cell, Seq(cell.stats().shipped))));
    assert!(cell.settle());
    cell.write();
    assert_eq!(lag(&cell), (1, bytes_behind(&cell, redis.head().last)));
    assert!(cell.settle());
    assert_eq!((lag(&cell), cell.stats().lag_nanos), ((0, 0), 0));
}

/// A server whose disk can be waited for, and load that never lets the shipper catch up.
#[test]
fn under_steady_load_entries_come_to_count_as_in_redis() {
    let mut cell = Cell::new(16);
    cell.redis.set_append_only(Some(true));
    cell.shipper.stream = Box::new(cell.redis.connect());
    cell.shipper.epoch = Epoch(2);
    let turn = |cell: &mut Cell| {
        for _ in 0..=SENT_MAX * BATCH_FRAMES {
            cell.write();
        }
        assert_eq!(cell.shipper.turn(), ShipTurn::Shipped);
        assert!(cell.redis.head().last < cell.engine.appended(), "never caught up");
    };
    // As long as it takes until it is asked by time; by bytes it would not be for much longer.
    for _ in 0..2000 {
        turn(&mut cell);
        if cell.stats().shipped > 0 {
            break;
        }
    }
    let stats = cell.stats();
    assert!(stats.shipped > 0 && stats.bytes < SETTLE_BYTES, "{stats:?}");
    assert!(stats.lag_bytes > 0 && stats.lag_bytes == bytes_behind(&cell, Seq(stats.shipped)));
    // The server is asked how it stands too, when the thread says that it is time.
    let warnings = vec!["it has become small".to_owned()];
    cell.redis.set_state(ServerState { warnings: warnings.clone(), ..ServerState::default() });
    turn(&mut cell);
    cell.shipper.ask_soon();
    turn(&mut cell);
    assert_eq!(cell.stats().warnings, warnings);
}

#[test]
fn a_redis_whose_disk_is_late_is_waited_for_and_holds_nothing_else_up() {
    let mut cell = Cell::new(17);
    cell.redis.set_append_only(Some(false));
    cell.shipper.stream = Box::new(cell.redis.connect());
    cell.shipper.epoch = Epoch(2);
    cell.fill();
    cell.snapshot();
    let last = cell.fill();
    for _ in 0..100 {
        assert!(matches!(cell.shipper.turn(), ShipTurn::Shipped | ShipTurn::Idle));
    }
    let stats = cell.stats();
    assert_eq!((stats.connected, stats.shipped, stats.errors), (1, 0, 0), "{stats:?}");
    assert!(stats.snapshot > 0 && cell.redis.head().last == last, "snapshots and frames go on");
    assert!(stats.warnings.iter().any(|warning| warning.contains("not in time")), "{stats:?}");
    // Nothing to wait for any more: noticed when the server is asked, or by the first call that it refuses.
    cell.redis.set_append_only(None);
    for _ in 0..6000 {
        // It asks again after a while, which is as long as asking took.
        std::thread::park_timeout(Duration::from_millis(10));
        assert!(cell.settle());
        if cell.stats().shipped == last.0 {
            break;
        }
    }
    assert_eq!((cell.stats().shipped, cell.stats().warnings), (last.0, Vec::new()));
}

#[test]
fn a_shipper_that_panics_tells_who_waits_for_it() {
    let mut cell = Cell::new(18);
    let last = cell.write();
    cell.redis.plant_panic();
    let Cell { engine, shipper, .. } = cell;
    let thread = ShipperThread::spawn(shipper).unwrap();
    let told = engine.ticket_for(last, Ack::Redis).wait_at_most(Duration::from_secs(60));
    assert!(matches!(&told, Err(Failure::RedisStopped { reason }) if reason.contains("panicked")), "{told:?}");
    let stats = engine.stats().redis.unwrap();
    assert_eq!((stats.stopped, stats.connected), (1, 0));
    assert!(!engine.can_acknowledge(Ack::Redis));
    drop(thread);
}
