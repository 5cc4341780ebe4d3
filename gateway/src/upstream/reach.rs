//! Which address of a target takes a connection: each gets a head start before the next, both families in
//! turn (RFC 8305). What is not reached does not make the others wait.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::{Error, Result};

/// A connection in one region takes a tenth of this, one around the world most of it.
const HEAD_START: Duration = Duration::from_millis(250);
/// The TLS handshake of one that took the connection may take this long before the next is tried beside it.
const HANDSHAKE: Duration = Duration::from_millis(1500);

/// Places in a list of addresses, in the order in which they are tried: the first of one family, the first
/// of the other, the second of one.
pub fn in_turns(addresses: &[SocketAddr]) -> VecDeque<usize> {
    let of = |v6: bool| (0..addresses.len()).filter(move |place| addresses[*place].is_ipv6() == v6);
    let (mut v4, mut v6) = (of(false), of(true));
    let mut places = VecDeque::new();
    while places.len() < addresses.len() {
        places.extend(v4.next());
        places.extend(v6.next());
    }
    places
}

/// What comes first through `connect` and then `begin`, of these places of a list. The handshake of one goes
/// on beside those after it: a slow one is still there when they refuse.
pub async fn first<S, T, C: Future<Output = Result<S>>, B: Future<Output = Result<T>>>(
    mut waiting: VecDeque<usize>,
    deadline: Instant,
    connect: impl Fn(usize) -> C,
    begin: impl Fn(usize, S) -> B,
) -> Result<Option<T>> {
    let dial = async |place| (place, connect(place).await);
    let (mut dials, mut open, mut handshakes) =
        (FuturesUnordered::new(), VecDeque::new(), FuturesUnordered::new());
    let (mut failure, mut reached) = (None, false);
    loop {
        if !reached && let Some(place) = waiting.pop_front() {
            open.push_back(place);
            dials.push(dial(place));
        }
        if dials.is_empty() && handshakes.is_empty() && waiting.is_empty() {
            return failure.map_or(Ok(None), Err);
        }
        let head_start = if reached { HANDSHAKE } else { HEAD_START };
        let next = async {
            match waiting.is_empty() {
                true => pending().await,
                false => sleep(head_start).await,
            }
        };
        reached = false;
        tokio::select! {
            biased;
            Some(begun) = handshakes.next() => match begun {
                Ok(begun) => return Ok(Some(begun)),
                // Another address must not be asked to vouch for one that has changed.
                Err(error @ Error::CertificateChanged { .. }) => return Err(error),
                // One that is under way has its room already.
                Err(Error::NoRoom) if handshakes.is_empty() => return Err(Error::NoRoom),
                Err(error) => failure = Some(more_telling(failure, error)),
            },
            Some((place, dialled)) = dials.next() => {
                open.retain(|other| *other != place);
                match dialled {
                    Ok(socket) => {
                        handshakes.push(begin(place, socket));
                        dials.clear();
                        open.append(&mut waiting);
                        std::mem::swap(&mut open, &mut waiting);
                        reached = true;
                    }
                    Err(error) => failure = Some(more_telling(failure, error)),
                }
            }
            () = next => {}
            // Of one that is not answered, a rule against another says nothing.
            () = sleep_until(deadline) => {
                return failure.filter(|error| !is_rule(error)).map_or(Ok(None), Err);
            }
        }
    }
}

/// Of two addresses of a target: what one that was dialled has met says more than that another may not be.
pub fn more_telling(before: Option<Error>, now: Error) -> Error {
    match (before, now) {
        (Some(met), now) if is_rule(&now) => met,
        (_, now) => now,
    }
}

fn is_rule(error: &Error) -> bool {
    matches!(error, Error::Denied { .. } | Error::InCluster { .. })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn both_families_are_tried_in_turn() {
        let addresses: Vec<SocketAddr> = ["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1", "[::2]:1"]
            .map(|address| address.parse().unwrap())
            .into();
        assert_eq!(in_turns(&addresses), [0, 3, 1, 4, 2]);
        assert_eq!(in_turns(&addresses[3..]), [0, 1]);
        assert!(in_turns(&[]).is_empty());
    }

    /// What each place does: takes a connection or refuses it after so many milliseconds, or never answers; and
    /// takes a connection at once, whose handshake ends or fails after so many.
    #[derive(Clone, Copy)]
    enum Does {
        Takes(u64),
        Refuses(u64),
        Shakes(u64),
        Breaks(u64),
        Nothing,
    }
    use Does::{Breaks, Nothing, Refuses, Shakes, Takes};

    async fn after(millis: u64) {
        sleep(Duration::from_millis(millis)).await;
    }

    fn refused() -> Error {
        Error::ConnectTimeout { host: "t".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_costs_a_head_start_and_one_that_refuses_nothing() {
        for (places, won, millis) in [
            (vec![Takes(10), Takes(1)], Some(0), 10),
            (vec![Nothing, Takes(10)], Some(1), 260),
            (vec![Refuses(10), Takes(10)], Some(1), 20),
            (vec![Takes(400), Takes(10), Takes(1)], Some(1), 260),
            (vec![Nothing, Refuses(1), Nothing, Takes(5)], Some(3), 506),
            (vec![Refuses(10), Refuses(10)], None, 20),
            // A slow handshake wins in the end, whatever the others do.
            (vec![Shakes(3_000), Refuses(10)], Some(0), 3_000),
            (vec![Shakes(3_000), Breaks(10)], Some(0), 3_000),
            (vec![Shakes(3_000), Nothing, Nothing], Some(0), 3_000),
            (vec![Shakes(3_000), Takes(10)], Some(1), 1_510),
            (vec![Breaks(10), Takes(10)], Some(1), 20),
            // Who was dialled before the one that broke is dialled again.
            (vec![Nothing, Breaks(10), Takes(10)], Some(2), 520),
            (vec![Breaks(10), Breaks(10)], None, 20),
            (vec![Nothing, Refuses(10)], None, 10_000),
            (vec![Shakes(20_000)], None, 10_000),
        ] {
            let started = Instant::now();
            let connect = |place: usize| {
                let does = places[place];
                async move {
                    match does {
                        Takes(millis) => after(millis).await,
                        Refuses(millis) => {
                            after(millis).await;
                            return Err(refused());
                        }
                        Shakes(_) | Breaks(_) => {}
                        Nothing => pending().await,
                    }
                    Ok(())
                }
            };
            let begin = |place: usize, ()| {
                let does = places[place];
                async move {
                    match does {
                        Shakes(millis) => after(millis).await,
                        Breaks(millis) => {
                            after(millis).await;
                            return Err(refused());
                        }
                        _ => {}
                    }
                    Ok(place)
                }
            };
            let deadline = started + Duration::from_secs(10);
            let found = first((0..places.len()).collect(), deadline, connect, begin).await;
            assert_eq!((found.ok().flatten(), started.elapsed().as_millis()), (won, millis));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_address_that_hangs_a_rule_against_another_says_nothing() {
        let rule = || Error::Denied { host: "t".to_owned(), address: "10.0.0.1".to_owned() };
        for (denied, told) in [(vec![1], false), (vec![0, 1], true)] {
            let connect = |place: usize| {
                let is_denied = denied.contains(&place);
                async move { if is_denied { Err(rule()) } else { Ok(()) } }
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            let found = first([0, 1].into(), deadline, connect, |_, ()| pending::<Result<()>>()).await;
            assert_eq!(found.is_err_and(|error| is_rule(&error)), told, "{denied:?}");
        }
    }
}
