//! Which address of a target takes a connection: each gets a head start before the next, both families in
//! turn (RFC 8305). What is not reached does not make the others wait.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::error::{Error, Result};

/// A connection in one region takes a tenth of this, one around the world most of it.
const HEAD_START: Duration = Duration::from_millis(250);

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

/// The first connection that one of the `waiting` places takes. Those that have neither taken nor refused
/// one stay there.
pub async fn first<S, F: Future<Output = Result<S>>>(
    waiting: &mut VecDeque<usize>,
    connect: impl Fn(usize) -> F,
) -> Result<(usize, S)> {
    let place_of = |place: usize| {
        let dialled = connect(place);
        async move { (place, dialled.await) }
    };
    let (mut dials, mut open, mut failure) = (FuturesUnordered::new(), VecDeque::new(), None);
    loop {
        if let Some(place) = waiting.pop_front() {
            open.push_back(place);
            dials.push(place_of(place));
        }
        let next = async {
            match waiting.is_empty() {
                true => pending().await,
                false => tokio::time::sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            biased;
            dialled = dials.next() => match dialled {
                Some((place, Ok(socket))) => {
                    open.retain(|other| *other != place);
                    open.append(waiting);
                    *waiting = open;
                    return Ok((place, socket));
                }
                Some((place, Err(error))) => {
                    open.retain(|other| *other != place);
                    failure = Some(more_telling(failure, error));
                }
                None => return Err(failure.unwrap_or_else(|| Error::Internal("no address to dial".to_owned()))),
            },
            () = next => {}
        }
    }
}

/// Of two addresses of a target: what one that was dialled has met says more than that another may not be.
pub fn more_telling(before: Option<Error>, now: Error) -> Error {
    match (before, now) {
        (Some(met), Error::Denied { .. } | Error::InCluster { .. }) => met,
        (_, now) => now,
    }
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

    /// What each place does: takes a connection or refuses it after so many milliseconds, or never answers.
    #[derive(Clone, Copy)]
    enum Does {
        Takes(u64),
        Refuses(u64),
        Nothing,
    }
    use Does::{Nothing, Refuses, Takes};

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_answer_costs_a_head_start_and_one_that_refuses_nothing() {
        for (places, won, millis, left) in [
            (vec![Takes(10), Takes(1)], Some(0), 10, vec![1]),
            (vec![Nothing, Takes(10)], Some(1), 260, vec![0]),
            (vec![Refuses(10), Takes(10)], Some(1), 20, vec![]),
            (vec![Takes(400), Takes(10), Takes(1)], Some(1), 260, vec![0, 2]),
            (vec![Nothing, Refuses(1), Nothing, Takes(5)], Some(3), 506, vec![0, 2]),
            (vec![Refuses(10), Refuses(10)], None, 20, vec![]),
        ] {
            let begun = Instant::now();
            let mut waiting: VecDeque<usize> = (0..places.len()).collect();
            let found = first(&mut waiting, |place| {
                let does = places[place];
                async move {
                    let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
                    match does {
                        Takes(after) => {
                            wait(after).await;
                            Ok(())
                        }
                        Refuses(after) => {
                            wait(after).await;
                            Err(Error::ConnectTimeout { host: "t".to_owned() })
                        }
                        Nothing => pending().await,
                    }
                }
            })
            .await;
            assert_eq!(found.ok().map(|(place, ())| place), won);
            assert_eq!((begun.elapsed().as_millis(), waiting), (millis, left.into()), "{won:?}");
        }
    }
}
