//! Where lines wait to be written together, by a thread of their own: a write(2) for each access record is a good
//! part of what a small request costs, and a reader that stalls must not stop who logs. Each thread has a part of its
//! own to put lines into, so that workers do not wait for each other; its lines stay in order. A line waits for `DELAY`
//! at most; a warning or an error takes what waits along at once. What finds its part full is lost and counted,
//! unless an operator would rather wait. Comes after `Json` or tracing-subscriber's text, before standard error.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use connectors_api::logs::loss;
use prometheus::IntCounter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::settings::OnFull;

/// The longest that a line waits. Nothing runs while none does.
const DELAY: Duration = Duration::from_millis(100);
/// Half of a pipe (64 KiB): so much is written without a wait; some 60 records.
const FULL: usize = 32 * 1024;
/// What may wait in one part for a reader that stalls.
const BUFFER: usize = 1 << 20;
/// Threads that have a part; of more than these some share one.
const PARTS: usize = 16;
/// How long the end of the process waits for a reader that stalls.
const LAST: Duration = Duration::from_secs(2);

/// Cheap to clone. Writes each line at once until `gather`, and again after `end`.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

struct Shared {
    parts: [Part; PARTS],
    /// Lines wait.
    gathers: AtomicBool,
    gathering: OnceLock<Gathering>,
    writer: Mutex<Writer>,
    /// For the thread that writes.
    arrived: Condvar,
    /// For who ends it.
    over: Condvar,
    /// Taken before a part by whoever writes: batches leave in the order in which their lines came.
    out: Mutex<Out>,
}

/// Aligned so that no two share a cache line.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    waiting: Mutex<Waiting>,
    /// For those who wait until there is room.
    written: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines that found no room since the last batch.
    lost: u64,
    /// The writer knows that it is to write without a wait.
    urgent: bool,
}

/// What the thread that writes is told, and tells.
#[derive(Default)]
struct Writer {
    arrived: bool,
    urgent: bool,
    ends: bool,
    over: bool,
}

struct Gathering {
    on_full: OnFull,
    lost: IntCounter,
}

struct Out {
    batch: Vec<u8>,
    to: Box<dyn Write + Send>,
}

impl Lines {
    pub fn new(to: impl Write + Send + 'static) -> Lines {
        let out = Out { batch: Vec::new(), to: Box::new(to) };
        Lines(Arc::new(Shared {
            parts: Default::default(),
            gathers: AtomicBool::new(false),
            gathering: OnceLock::new(),
            writer: Mutex::default(),
            arrived: Condvar::new(),
            over: Condvar::new(),
            out: Mutex::new(out),
        }))
    }

    /// To be called once, when every way in which the process can end by itself leads to `end`: what waits would be
    /// lost otherwise. `lost` counts lines.
    pub fn gather(&self, on_full: OnFull, lost: IntCounter) -> io::Result<()> {
        self.0.gathering.get_or_init(|| Gathering { on_full, lost });
        let shared = self.0.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_in_time())?;
        self.0.gathers.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes a whole line.
    pub(super) fn add(&self, line: &[u8], at_once: bool) {
        self.0.add(line, at_once);
    }

    /// Nothing waits any more, now and later; unless the reader stalls.
    pub fn end(&self) {
        if !self.0.gathers.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut writer = lock(&self.0.writer);
        writer.ends = true;
        self.0.arrived.notify_all();
        let waits = |writer: &mut Writer| !writer.over;
        drop(self.0.over.wait_timeout_while(writer, LAST, waits).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    fn add(&self, line: &[u8], at_once: bool) {
        let part = self.part();
        let gathers = self.gathers.load(Ordering::Acquire);
        let mut waiting = lock(&part.waiting);
        while gathers && !waiting.lines.is_empty() && waiting.lines.len() + line.len() > BUFFER {
            let Some(gathering) = self.gathering.get() else { break };
            match gathering.on_full {
                OnFull::Drop => {
                    gathering.lost.inc();
                    waiting.lost += 1;
                    return;
                }
                OnFull::Wait => {
                    waiting = part.written.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let urgent = (at_once || waiting.lines.len() >= FULL) && !waiting.urgent;
        waiting.urgent |= urgent;
        drop(waiting);
        // Once for a batch: a wake-up per line would cost more than its write.
        if !gathers || ((first || urgent) && !self.told(urgent)) {
            self.write();
        }
    }

    /// The part of this thread.
    fn part(&self) -> &Part {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed));
        let place = PLACE.try_with(|place| *place).unwrap_or_default();
        &self.parts[place % PARTS]
    }

    /// False if the writer writes no more.
    fn told(&self, urgent: bool) -> bool {
        let mut writer = lock(&self.writer);
        (writer.arrived, writer.urgent) = (true, writer.urgent | urgent);
        let writes = !writer.over;
        drop(writer);
        self.arrived.notify_one();
        writes
    }

    fn write(&self) {
        let mut out = lock(&self.out);
        let Out { batch, to } = &mut *out;
        for part in &self.parts {
            let mut waiting = lock(&part.waiting);
            // Nobody waits for room where nothing is, and to tell nobody is a system call, too.
            if waiting.lines.is_empty() && waiting.lost == 0 {
                continue;
            }
            std::mem::swap(batch, &mut waiting.lines);
            waiting.urgent = false;
            let lost = std::mem::take(&mut waiting.lost);
            drop(waiting);
            if lost > 0 {
                batch.extend_from_slice(loss(lost).as_bytes());
            }
            // Nobody is left to be told that the log cannot be written.
            let _ = to.write_all(batch);
            batch.clear();
            batch.shrink_to(2 * FULL);
            part.written.notify_all();
        }
    }

    fn write_in_time(&self) {
        let mut ends = false;
        while !ends {
            let idle = |writer: &mut Writer| !writer.ends && !writer.arrived;
            let writer =
                self.arrived.wait_while(lock(&self.writer), idle).unwrap_or_else(PoisonError::into_inner);
            let patient = |writer: &mut Writer| !writer.ends && !writer.urgent;
            let waited = self.arrived.wait_timeout_while(writer, DELAY, patient);
            let (mut writer, _) = waited.unwrap_or_else(PoisonError::into_inner);
            (writer.arrived, writer.urgent) = (false, false);
            ends = writer.ends;
            drop(writer);
            self.write();
        }
        lock(&self.writer).over = true;
        // What came in between, of those who believe that somebody will write it.
        self.write();
        self.over.notify_all();
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
        lines.gather(OnFull::Drop, counter()).unwrap();
        (lines, writes)
    }

    fn counter() -> IntCounter {
        IntCounter::new("lost", "lines").unwrap()
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
    fn lines_of_many_threads_all_arrive_and_those_of_each_in_order() {
        let (lines, writes) = gathering();
        std::thread::scope(|scope| {
            for thread in 0..2 * PARTS {
                let lines = &lines;
                scope.spawn(move || (0..500).for_each(|n| info(lines, &format!("{thread} {n}\n"))));
            }
        });
        lines.end();
        let text: String = writes.try_iter().collect();
        for thread in 0..2 * PARTS {
            let own = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(own.map(|n| n.parse::<i32>().unwrap()).eq(0..500), "of thread {thread}");
        }
    }

    #[test]
    fn a_warning_is_written_at_once_behind_what_waited() {
        let (lines, writes) = gathering();
        let subscriber = tracing_subscriber::registry().with(crate::log::Json::new(lines));
        tracing::subscriber::with_default(subscriber, || {
            let began = Instant::now();
            tracing::info!("first");
            tracing::warn!("second");
            let written = writes.recv_timeout(PATIENCE).unwrap();
            assert!(written.find("first") < written.find("second") && written.contains("first"), "{written}");
            assert!(began.elapsed() < DELAY, "it took {:?}", began.elapsed());
        });
    }

    #[test]
    fn a_full_buffer_is_written_without_a_wait() {
        let (lines, writes) = gathering();
        let line = format!("{}\n", "x".repeat(1023));
        let began = Instant::now();
        for _ in 0..FULL / line.len() {
            info(&lines, &line);
        }
        let mut written = 0;
        while written < FULL {
            written += writes.recv_timeout(PATIENCE).unwrap().len();
        }
        assert!(written == FULL && began.elapsed() < DELAY, "{written} bytes in {:?}", began.elapsed());
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

    fn stuck(on_full: OnFull, lost: &IntCounter) -> (Lines, Sender<()>, Receiver<String>) {
        let (free, held) = channel();
        let (sender, writes) = channel();
        let lines = Lines::new(Stuck(Mutex::new(held), sender));
        lines.gather(on_full, lost.clone()).unwrap();
        (lines, free, writes)
    }

    /// More than a pipe and the buffer hold.
    const MANY: usize = 3 * BUFFER / 1024;

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_what_is_lost_is_counted_and_told() {
        let lost = counter();
        let (lines, free, writes) = stuck(OnFull::Drop, &lost);
        let line = format!("{}\n", "x".repeat(1023));
        let began = Instant::now();
        for _ in 0..MANY {
            lines.0.add(line.as_bytes(), true);
        }
        assert!(began.elapsed() < PATIENCE, "whoever logs was stopped");
        assert!(writes.try_recv().is_err() && lost.get() > 0);
        drop(free);
        lines.end();
        let text: String = writes.try_iter().collect();
        let whole = text.lines().filter(|line| line.len() == 1023).count();
        assert_eq!(whole as u64 + lost.get(), MANY as u64, "a line is neither written nor counted");
        assert!(text.contains(&format!("\"lines\":{}", lost.get())), "nobody is told");
    }

    #[test]
    fn where_no_line_may_be_lost_who_logs_waits() {
        let lost = counter();
        let (lines, free, writes) = stuck(OnFull::Wait, &lost);
        let line = format!("{}\n", "x".repeat(1023));
        let logging = {
            let lines = lines.clone();
            std::thread::spawn(move || (0..MANY).for_each(|_| info(&lines, &line)))
        };
        std::thread::sleep(3 * DELAY);
        assert!(!logging.is_finished(), "the buffer has no end");
        drop(free);
        logging.join().unwrap();
        lines.end();
        assert_eq!(writes.try_iter().map(|text| text.lines().count()).sum::<usize>(), MANY);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (lines, _free, _writes) = stuck(OnFull::Drop, &counter());
        info(&lines, "never read\n");
        let began = Instant::now();
        lines.end();
        assert!(began.elapsed() < 2 * LAST, "it took {:?}", began.elapsed());
    }
}
