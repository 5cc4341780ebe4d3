//! Where lines wait to be written together: a write(2) for each access record is a good part of what a small
//! request costs. A line waits for `DELAY` at most; a warning or an error takes what waits along at once.
//! Comes after `Json` or tracing-subscriber's text, before standard error.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// The longest that a line waits. Nothing runs while none does.
const DELAY: Duration = Duration::from_millis(100);
/// Half of a pipe (64 KiB), so that a reader who keeps up never blocks us; some 60 records.
const FULL: usize = 32 * 1024;

/// Cheap to clone. Writes each line at once until `gather`, and again after `end`.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Held while writing, taken before `waiting`: batches leave in the order in which their lines came, and
    /// while the reader is stuck lines can still wait until the buffer is full. After that whoever logs is
    /// blocked, as by a write of its own.
    out: Mutex<Out>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    gathering: bool,
}

struct Out {
    batch: Vec<u8>,
    to: Box<dyn Write + Send>,
}

impl Lines {
    pub fn new(to: impl Write + Send + 'static) -> Lines {
        let out = Out { batch: Vec::new(), to: Box::new(to) };
        Lines(Arc::new(Shared { waiting: Mutex::default(), arrived: Condvar::new(), out: Mutex::new(out) }))
    }

    /// To be called once every way in which the process can end by itself leads to `end`: what waits would be
    /// lost otherwise.
    pub fn gather(&self) -> io::Result<()> {
        lock(&self.0.waiting).gathering = true;
        let shared = self.0.clone();
        let started =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_in_time());
        if started.is_err() {
            self.end();
        }
        started.map(drop)
    }

    /// Takes a whole line.
    pub(super) fn add(&self, line: &[u8], at_once: bool) {
        self.0.add(line, at_once);
    }

    /// Nothing waits any more, now and later.
    pub fn end(&self) {
        lock(&self.0.waiting).gathering = false;
        self.0.arrived.notify_all();
        self.0.write();
    }
}

impl Shared {
    fn add(&self, line: &[u8], at_once: bool) {
        let mut waiting = lock(&self.waiting);
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let now = at_once || !waiting.gathering || waiting.lines.len() >= FULL;
        drop(waiting);
        if now {
            self.write();
        } else if first {
            // Once for a batch: a wake-up per line would cost more than its write.
            self.arrived.notify_one();
        }
    }

    fn write(&self) {
        let mut out = lock(&self.out);
        let Out { batch, to } = &mut *out;
        std::mem::swap(batch, &mut lock(&self.waiting).lines);
        // Nobody is left to be told that the log cannot be written.
        let _ = to.write_all(batch);
        batch.clear();
        batch.shrink_to(2 * FULL);
    }

    fn write_in_time(&self) {
        loop {
            let idle = |waiting: &mut Waiting| waiting.gathering && waiting.lines.is_empty();
            let waiting =
                self.arrived.wait_while(lock(&self.waiting), idle).unwrap_or_else(PoisonError::into_inner);
            if !waiting.gathering {
                return;
            }
            drop(waiting);
            std::thread::sleep(DELAY);
            self.write();
        }
    }
}

/// A panic elsewhere leaves whole lines behind: the log goes on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The formatter of texts brings a whole line in one call.
pub struct Line<'a> {
    shared: &'a Shared,
    at_once: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.add(line, self.at_once);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, at_once: true }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line { shared: &self.0, at_once: *event.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Each write as one message.
    struct Writes(Sender<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gathering() -> (Lines, Receiver<String>) {
        let (sender, writes) = channel();
        let lines = Lines::new(Writes(sender));
        lines.gather().unwrap();
        (lines, writes)
    }

    fn info(lines: &Lines, text: &str) {
        lines.0.add(text.as_bytes(), false);
    }

    #[test]
    fn lines_that_come_together_leave_together_and_in_order_after_a_short_wait() {
        let (lines, writes) = gathering();
        for round in 0..3 {
            let began = Instant::now();
            for number in 0..100 {
                info(&lines, &format!("{round} {number}\n"));
            }
            let sent: String = (0..100).map(|number| format!("{round} {number}\n")).collect();
            let mut seen = String::new();
            let mut count = 0;
            while seen.len() < sent.len() {
                seen += &writes.recv_timeout(PATIENCE).unwrap();
                count += 1;
            }
            assert_eq!(seen, sent);
            // Two if the machine stopped us for longer than the delay.
            assert!(count == 1 || began.elapsed() > DELAY, "{count} writes");
        }
    }

    #[test]
    fn a_warning_is_written_at_once_behind_what_waited() {
        let (lines, writes) = gathering();
        let subscriber = tracing_subscriber::registry().with(crate::log::Json::new(lines));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("first");
            tracing::warn!("second");
            let written: String = writes.try_iter().collect();
            assert!(written.find("first") < written.find("second") && written.contains("first"), "{written}");
        });
    }

    #[test]
    fn a_full_buffer_is_written_without_a_wait() {
        let (lines, writes) = gathering();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..FULL / line.len() {
            info(&lines, &line);
        }
        assert_eq!(writes.try_iter().map(|text| text.len()).sum::<usize>(), FULL);
    }

    #[test]
    fn the_end_leaves_nothing_behind_and_later_lines_do_not_wait() {
        let (lines, writes) = gathering();
        info(&lines, "waits\n");
        lines.end();
        info(&lines, "late\n");
        assert_eq!(writes.try_iter().collect::<String>(), "waits\nlate\n");
    }

    #[test]
    fn nothing_waits_before_gathering_begins() {
        let (sender, writes) = channel();
        info(&Lines::new(Writes(sender)), "early\n");
        assert_eq!(writes.try_recv().unwrap(), "early\n");
    }

    #[test]
    fn while_the_reader_is_stuck_lines_wait_without_blocking_until_the_buffer_is_full() {
        /// Takes nothing until the sender is gone.
        struct Stuck(Mutex<Receiver<()>>, Sender<String>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = lock(&self.0).recv();
                Writes(self.1.clone()).write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (free, held) = channel();
        let (sender, writes) = channel();
        let lines = Lines::new(Stuck(Mutex::new(held), sender));
        lines.gather().unwrap();
        info(&lines, "stuck\n");
        std::thread::sleep(2 * DELAY);
        for _ in 0..10 {
            info(&lines, "waits\n");
        }
        assert!(writes.try_recv().is_err());
        drop(free);
        lines.end();
        assert_eq!(writes.try_iter().collect::<String>(), format!("stuck\n{}", "waits\n".repeat(10)));
    }
}
