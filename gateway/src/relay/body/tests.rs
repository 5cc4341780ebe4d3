use std::future::{Future, poll_fn};
use std::pin::pin;

use super::*;
use crate::http::wire::Encoder;

/// All of it is at hand, and its writer always takes more.
#[tokio::test]
async fn a_body_of_crumbs_gives_way_to_others() {
    let chunks = 10_000;
    let mut buf = BytesMut::from("1\r\nx\r\n".repeat(chunks).as_str());
    let (mut nothing, mut out, mut decoder) = (tokio::io::empty(), BytesMut::new(), Decoder::ChunkSize);
    let mut written = std::io::Cursor::new(Vec::new());
    let count = AtomicU64::new(0);
    let mut source =
        Source::H1(H1Source { io: &mut nothing, buf: &mut buf, decoder: &mut decoder, share: None });
    let mut sink = Sink::H1(H1Sink { io: &mut written, out: &mut out, encoder: Encoder::Chunked });
    let mut copying = pin!(copy(&mut source, &mut sink, &count));
    let mut turns = 0;
    let end = poll_fn(|cx| {
        turns += 1;
        copying.as_mut().poll(cx)
    });
    let end = end.await;
    assert!(matches!(end, Err(Broken::Source(_))), "{end:?}");
    assert_eq!(count.load(Ordering::Relaxed), chunks as u64);
    assert!(turns >= chunks / 1000, "{turns} turns");
}
