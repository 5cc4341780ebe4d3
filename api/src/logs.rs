//! How our programs log (feature `logs`): what RUST_LOG may ask for, what is never logged, and lines for which nobody
//! waits: a reader that stalls (a full pipe, a container runtime in trouble) must not stop the program. These lines are controller's and
//! driver's; the gateway, which writes a record for each request, gathers its own (`gateway/src/log/lines.rs`).

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// So many lines wait for a reader that stalls; what comes then is lost and counted.
const WAITING: usize = 512;
/// Bytes of one line; the rest is cut off, as container runtimes do at this length. A tenant's volume may be named in a
/// line of more. So no more than 8 MiB wait.
const LONGEST: usize = 16 << 10;
/// How long `Lines::end` waits for a reader that stalls, at most.
const END: Duration = Duration::from_secs(2);
/// And a panic, which ends them first.
const LAST: Duration = Duration::from_secs(3);

/// What is logged without RUST_LOG, and what it asks for beside. A word of it that is no level is taken for the name of a
/// part, and must not silence all others.
pub fn filter(always: &str) -> EnvFilter {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    EnvFilter::try_new(format!("{always},{asked},{ENDS}=error")).unwrap_or_else(|_| EnvFilter::new(always))
}

/// Target of the line that says why a process ends by itself.
const ENDS: &str = "end";

/// Why this process ends by itself: written whatever RUST_LOG says, for nothing else of it may be.
pub fn stopped(why: &impl Display) {
    tracing::error!(target: ENDS, "stopped: {why:#}");
}

/// Whatever RUST_LOG says: kube logs whole answers that it cannot read, Secrets and reviewed tokens among them, below
/// this level.
pub fn harmless(line: &Metadata<'_>) -> bool {
    line.target() != "kube_client::client" || *line.level() == Level::ERROR
}

/// From here on the process logs to these lines, in JSON or as text for people. To be called once.
pub fn start(lines: &Lines, always: &str, json: bool) {
    let logs = tracing_subscriber::fmt().with_env_filter(filter(always)).with_writer(lines.clone());
    if json {
        logs.json().finish().with(filter_fn(harmless)).init();
    } else {
        logs.finish().with(filter_fn(harmless)).init();
    }
}

/// A panic ends the process, whatever the profile: half a program is worse than none. What was logged before it is
/// written first, and a reader that stalls does not keep it alive.
pub fn abort_after_panics(lines: Lines) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let abort_at_last = || {
            std::thread::sleep(LAST);
            std::process::abort();
        };
        // Without a thread it waits for the reader: there is nothing better to do.
        let _ = std::thread::Builder::new().spawn(abort_at_last);
        lines.end();
        tell(panic);
        std::process::abort();
    }));
}

/// Cheap to clone. A thread of its own writes them, one by one.
#[derive(Clone)]
pub struct Lines {
    to: NonBlocking,
    lost: ErrorCounter,
    /// Of those lost.
    told: Arc<AtomicUsize>,
    guard: Arc<Mutex<Option<WorkerGuard>>>,
}

impl Lines {
    pub fn new(to: impl Write + Send + Sync + 'static) -> Lines {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
        let (to, guard) = builder.thread_name("log").finish(to);
        let lost = to.error_counter();
        Lines { to, lost, told: Arc::default(), guard: Arc::new(Mutex::new(Some(guard))) }
    }

    /// Lines that found no room since the start.
    pub fn lost(&self) -> usize {
        self.lost.dropped_lines()
    }

    /// Writes what waits, unless the reader stalls: then it takes about a second. What comes later is lost.
    pub fn end(&self) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (done, wait) = channel();
        // Beside us: it may write to standard output, which may be the pipe that stalls.
        let dropping = std::thread::Builder::new().spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        if dropping.is_ok() {
            let _ = wait.recv_timeout(END);
        }
    }

    fn add(&self, line: &[u8]) {
        let lost = self.lost();
        let told = self.told.fetch_max(lost, Ordering::Relaxed);
        if told >= lost {
            return self.put(&cut(line));
        }
        // In one piece, for there may be room for one alone.
        self.put(&[loss(lost - told).as_bytes(), &cut(line)].concat());
        if self.lost() > lost {
            // It found none: the next line tells.
            self.told.fetch_min(told, Ordering::Relaxed);
        }
    }

    fn put(&self, line: &[u8]) {
        // It never fails: what finds no room is counted.
        let _ = self.to.clone().write(line);
    }
}

fn cut(line: &[u8]) -> Cow<'_, [u8]> {
    if line.len() <= LONGEST {
        return Cow::Borrowed(line);
    }
    let head = String::from_utf8_lossy(&line[..LONGEST]);
    Cow::Owned(format!("{head}…\n").into_bytes())
}

/// In place of what found no room, when there is some again; the gateway's log says it in the same words.
pub fn loss(lines: impl Display) -> String {
    format!(
        "{{\"level\":\"WARN\",\"target\":\"log\",\"message\":\"lines were lost, for nobody read the log\",\"lines\":{lines}}}\n"
    )
}

/// The formatter brings a whole line in one call.
pub struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Shows the first line and is not done with it until the sender of `free` is gone.
    struct Reader {
        free: Mutex<Receiver<()>>,
        written: Mutex<Sender<String>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.written.lock().unwrap().send(String::from_utf8(bytes.to_vec()).unwrap());
            let _ = self.free.lock().unwrap().recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Lines, Sender<()>, Receiver<String>) {
        let ((free, held), (sender, written)) = (channel(), channel());
        let lines = Lines::new(Reader { free: Mutex::new(held), written: Mutex::new(sender) });
        lines.add(b"first\n");
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "first\n");
        (lines, free, written)
    }

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_what_is_lost_is_counted_and_told_once() {
        let (lines, free, written) = stuck();
        (0..WAITING + 500).for_each(|number| lines.add(format!("{number}\n").as_bytes()));
        assert_eq!(lines.lost(), 500);
        drop(free);
        for number in 0..WAITING {
            assert_eq!(written.recv_timeout(PATIENCE).unwrap(), format!("{number}\n"));
        }
        lines.add(b"there is room\n");
        lines.add(b"and more\n");
        lines.end();
        let rest: Vec<String> = written.iter().collect();
        assert_eq!(rest, [loss(500) + "there is room\n", "and more\n".to_owned()]);
    }

    #[test]
    fn a_place_that_becomes_free_tells_of_all_that_were_lost_before() {
        let (lines, free, written) = stuck();
        (0..WAITING + 500).for_each(|number| lines.add(format!("{number}\n").as_bytes()));
        // The reader is done with the first line, and has taken the next.
        free.send(()).unwrap();
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "0\n");
        lines.add(b"one place\n");
        lines.add(b"and none\n");
        drop(free);
        let rest: Vec<String> = (1..WAITING + 1).map(|_| written.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(rest.last(), Some(&(loss(500) + "one place\n")));
        lines.add(b"last\n");
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), loss(1) + "last\n");
    }

    #[test]
    fn a_line_without_an_end_takes_the_memory_of_a_long_one() {
        let (lines, free, written) = stuck();
        let long = "€".repeat(LONGEST);
        lines.add(format!("{long}\n").as_bytes());
        lines.add(b"next\n");
        drop(free);
        let first = written.recv_timeout(PATIENCE).unwrap();
        assert!(first.len() < LONGEST + 10 && first.ends_with("€\u{fffd}…\n"), "{} bytes", first.len());
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "next\n");
    }

    #[test]
    fn the_end_waits_for_what_was_logged_and_not_for_a_reader_that_stalls() {
        let (lines, free, written) = stuck();
        lines.add(b"last\n");
        let begun = Instant::now();
        lines.end();
        assert!(begun.elapsed() < LAST, "{:?}", begun.elapsed());
        assert_eq!(written.try_recv(), Err(TryRecvError::Empty));
        drop(free);
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "last\n");
        assert_eq!(written.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected), "the thread is gone");

        let (lines, free, written) = stuck();
        drop(free);
        (0..100).for_each(|_| lines.add(b"line\n"));
        lines.end();
        assert_eq!(written.try_iter().count(), 100);
    }

    /// Run by the tests below, in a process of its own.
    #[test]
    fn panics_when_told_to() {
        let Ok(lines_before) = std::env::var(TOLD) else { return };
        let lines = Lines::new(io::stderr());
        abort_after_panics(lines.clone());
        (0..lines_before.parse().unwrap())
            .for_each(|number| lines.add(format!("line {number}\n").as_bytes()));
        panic!("at the worst time");
    }

    const TOLD: &str = "CONNECTORS_TEST_PANICS_AFTER_LINES";

    fn panicking(lines_before: usize) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "logs::tests::panics_when_told_to", "--nocapture"]);
        command.env(TOLD, lines_before.to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn a_panic_ends_the_process_after_what_was_logged_and_its_own_words() {
        let Output { status, stderr, .. } = panicking(100).output().unwrap();
        let text = String::from_utf8(stderr).unwrap();
        assert!(!status.success());
        let [last, panic] = ["line 99\n", "at the worst time"].map(|words| text.find(words));
        assert!(last.is_some() && last < panic, "{text}");
    }

    #[test]
    fn a_panic_ends_the_process_also_while_nobody_reads() {
        // More than a pipe holds.
        let mut child = panicking(100_000).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{:?}", child.kill());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!child.wait().unwrap().success());
    }
}
