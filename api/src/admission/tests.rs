//! The gate by hand: places, turns and refusals, without a server or a clock that matters.

use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn fixed(limit: usize, queue_max: usize) -> Arc<Admission> {
    Admission::new(Settings {
        mode: Mode::Fixed,
        limit_min: 1,
        limit_max: limit,
        queue_max,
        queue_time: LONG,
        ..Settings::default()
    })
}

const fn of(class: Class) -> Rank {
    Rank { class, exempt: false }
}

const LIVE_CONFIRM: Rank = Rank { class: Class::Settle, exempt: true };

/// Starts a request and lets it come as far as it can.
async fn ask(admission: &Arc<Admission>, rank: Rank) -> tokio::task::JoinHandle<Result<Place, Shed>> {
    let admission = Arc::clone(admission);
    let asking = tokio::spawn(async move { admission.enter(rank).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    asking
}

// rule: ADM-1
#[tokio::test]
async fn a_confirm_of_a_live_hold_enters_whatever_stands_in_its_way() {
    let admission = fixed(2, 2);
    let _inside = [admission.enter(of(Class::Claim)).await.unwrap(), admission.enter(of(Class::Claim)).await.unwrap()];
    let _waiting = [ask(&admission, of(Class::Settle)).await, ask(&admission, of(Class::Settle)).await];
    assert_eq!(admission.enter(of(Class::Settle)).await.unwrap_err().reason, Reason::QueueFull);
    let mut confirms = Vec::new();
    for _ in 0..50 {
        confirms.push(admission.enter(LIVE_CONFIRM).await.expect("never refused, never queued"));
    }
    admission.switch(Settings { shed: Class::ALL.to_vec(), ..admission.settings() });
    admission.enter(LIVE_CONFIRM).await.expect("also where its class is switched off");
    assert_eq!(admission.enter(of(Class::Settle)).await.unwrap_err().reason, Reason::SwitchedOff);
}

// rule: ADM-3
#[tokio::test]
async fn a_free_place_goes_to_the_highest_class_that_waits() {
    let admission = fixed(1, 1);
    admission.switch(Settings { limit_min: 8, limit_max: 8, queue_max: 8, ..admission.settings() });
    let mut inside = Vec::new();
    for _ in 0..8 {
        inside.push(admission.enter(of(Class::Search)).await.unwrap());
    }
    let mut waiting = Vec::new();
    for class in [Class::Admin, Class::Search, Class::Claim, Class::Search, Class::Settle] {
        waiting.push((class, ask(&admission, of(class)).await));
    }
    assert_eq!(admission.state().waiting, [1, 1, 2, 1]);
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(inside.pop());
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let at = waiting.iter().position(|(_, asking)| asking.is_finished()).expect("somebody's turn has come");
        let (class, asking) = waiting.remove(at);
        order.push(class);
        // Kept at work, so that the next place is one that was given up.
        std::mem::forget(asking.await.unwrap().unwrap());
    }
    assert_eq!(order, [Class::Settle, Class::Claim, Class::Search, Class::Search, Class::Admin]);
}

// rule: ADM-3
#[tokio::test]
async fn a_full_queue_gives_way_to_a_higher_class_only() {
    let admission = fixed(2, 2);
    let _inside = [admission.enter(of(Class::Claim)).await.unwrap(), admission.enter(of(Class::Claim)).await.unwrap()];
    let older = ask(&admission, of(Class::Search)).await;
    let newer = ask(&admission, of(Class::Search)).await;
    assert_eq!(admission.enter(of(Class::Search)).await.unwrap_err().reason, Reason::QueueFull);
    assert_eq!(admission.enter(of(Class::Admin)).await.unwrap_err().reason, Reason::QueueFull);
    let claim = ask(&admission, of(Class::Claim)).await;
    assert_eq!(newer.await.unwrap().unwrap_err(), Shed { class: Class::Search, reason: Reason::Displaced });
    assert!(!older.is_finished() && !claim.is_finished());
    let state = admission.state();
    assert_eq!(state.waiting, [0, 1, 1, 0]);
    assert_eq!(state.sheds[Class::Search as usize], [1, 0, 1, 0, 0]);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_queue_allows_and_no_place_is_lost() {
    let admission = fixed(1, 10);
    let inside = admission.enter(of(Class::Claim)).await.unwrap();
    let (soon, settings) = (Duration::from_millis(1), admission.settings());
    admission.switch(Settings { queue_time: soon, ..settings.clone() });
    let late = ask(&admission, of(Class::Claim)).await;
    assert_eq!(late.await.unwrap().unwrap_err().reason, Reason::QueueTime);
    assert_eq!(admission.state().waiting, [0; 4], "who has given up waits no more");
    admission.switch(settings);
    // One whose client hangs up while it waits, and one that hangs up with its place on the way to it.
    let gone = ask(&admission, of(Class::Claim)).await;
    gone.abort();
    let _ = gone.await;
    drop(inside);
    let state = admission.state();
    assert_eq!((state.at_work, state.waiting), (0, [0; 4]));
    let inside = admission.enter(of(Class::Claim)).await.unwrap();
    let mut given = Box::pin(admission.enter(of(Class::Claim)));
    assert!(std::future::poll_fn(|c| std::task::Poll::Ready(given.as_mut().poll(c).is_pending())).await);
    drop(inside);
    assert_eq!(admission.state().at_work, 1, "the place is on its way");
    drop(given);
    assert_eq!(admission.state().at_work, 0, "and comes back");
}

#[tokio::test]
async fn whoever_waits_for_a_disk_is_not_at_work() {
    let admission = fixed(1, 1);
    let place = admission.enter(of(Class::Claim)).await.unwrap();
    let (disk, synced) = tokio::sync::oneshot::channel::<()>();
    let booking = tokio::spawn(async move { place.run(&Reading::default(), synced).await });
    while admission.state().at_work == 1 {
        tokio::task::yield_now().await;
    }
    assert!(!booking.is_finished());
    disk.send(()).unwrap();
    booking.await.unwrap().unwrap();
    assert_eq!(admission.state().at_work, 0);
}

#[tokio::test]
async fn whoever_waits_for_a_body_keeps_its_place_until_it_is_there_or_a_moment_is_over() {
    let admission = fixed(1, 1);
    let (reading, body) = (Reading::default(), tokio::sync::Notify::new());
    let request = async |disk: tokio::sync::oneshot::Receiver<()>| {
        let now = reading.begin();
        body.notified().await;
        drop(now);
        disk.await.unwrap();
    };
    let at_work = || admission.state().at_work;
    let poll = async |running: &mut std::pin::Pin<Box<dyn Future<Output = ()> + '_>>| {
        std::future::poll_fn(|context| std::task::Poll::Ready(running.as_mut().poll(context).is_ready())).await
    };

    let place = admission.enter(of(Class::Claim)).await.unwrap();
    let (synced, disk) = tokio::sync::oneshot::channel();
    let mut running: std::pin::Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(place.run(&reading, request(disk)));
    assert!(!poll(&mut running).await);
    assert_eq!(at_work(), 1, "its body is on its way");
    body.notify_one();
    assert!(!poll(&mut running).await);
    assert_eq!(at_work(), 0, "it waits for the disk");
    synced.send(()).unwrap();
    running.await;

    let place = admission.enter(of(Class::Claim)).await.unwrap();
    let (_synced, disk) = tokio::sync::oneshot::channel();
    let mut slow: std::pin::Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(place.run(&reading, request(disk)));
    tokio::select! {
        () = &mut slow => panic!("it has no body"),
        () = async { while at_work() == 1 { tokio::task::yield_now().await } } => {}
    }
}

#[tokio::test]
async fn a_limit_that_goes_up_lets_those_in_who_wait() {
    let admission = fixed(1, 1);
    let _inside = admission.enter(of(Class::Claim)).await.unwrap();
    let waiting = ask(&admission, of(Class::Claim)).await;
    admission.switch(Settings { limit_max: 2, ..admission.settings() });
    admission.look(Duration::ZERO);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(waiting.is_finished(), "nobody left, and yet there is a place");
}

/// With no delay nothing is limited; with one the limit comes down, and what waits is counted.
#[tokio::test]
async fn the_limit_follows_the_delay() {
    let admission = Admission::new(Settings { limit_min: 4, limit_max: 100, ..Settings::default() });
    assert_eq!((admission.state().limit, admission.is_strained()), (100, false));
    for _ in 0..100 {
        admission.look(Duration::from_millis(100));
    }
    let state = admission.state();
    assert_eq!((state.limit, state.strained), (4, true));
    assert!(state.delay > Duration::from_millis(90), "{:?}", state.delay);
    let _inside = admission.enter(of(Class::Search)).await.unwrap();
    assert!(admission.waited.load(Relaxed) == 1, "under strain a request is counted before it runs");
    admission.switch(Settings { mode: Mode::Off, ..admission.settings() });
    assert_eq!((admission.state().limit, admission.is_strained()), (usize::MAX, false));
}

// rule: ADM-2
#[test]
fn a_refusal_says_when_to_come_again_and_not_to_all_the_same() {
    for class in Class::ALL {
        let drawn: std::collections::BTreeSet<u16> = (0..500).map(|_| shed::retry_after(class)).collect();
        assert!(
            drawn.len() >= 2 && *drawn.first().unwrap() >= 1 && *drawn.last().unwrap() <= 20,
            "{class:?} {drawn:?}"
        );
    }
    for reason in Reason::ALL {
        let shed = Shed { class: Class::Search, reason };
        for path in ["/v1/availability", "/v1/\"\\"] {
            let response = shed.into_response(path);
            let crate::body::ResponseBody::Whole(Some(bytes)) = response.into_body() else { panic!("it has a body") };
            let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(
                (&body["code"], &body["reason"], &body["instance"]),
                (&"overloaded".into(), &reason.as_str().into(), &path.into())
            );
        }
    }
}

#[test]
fn of_two_changes_at_once_both_come_into_force() {
    let admission = fixed(8, 8);
    let raise = |field: fn(&mut Settings) -> &mut usize| {
        for _ in 0..10_000 {
            let raised = admission.change(|in_force| {
                let mut settings = in_force.clone();
                *field(&mut settings) += 1;
                Ok::<_, ()>(settings)
            });
            raised.unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| raise(|settings| &mut settings.limit_max));
        scope.spawn(|| raise(|settings| &mut settings.queue_max));
    });
    assert_eq!((admission.settings().limit_max, admission.settings().queue_max), (10_008, 10_008));
}
