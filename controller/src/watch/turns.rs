//! Whose turn it is. Requests wait in a queue of their namespace, namespaces take turns, and each has a few
//! places: who asks for much waits for itself. Asking and taking cost the same however many wait. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

use connectors_api::places::OF_ONE_NAMESPACE;

/// `W` is who asks. Nobody runs twice at the same time, and requests of one who waits are one request.
pub struct Turns<W> {
    namespace: fn(&W) -> &str,
    free: usize,
    known: HashMap<W, State>,
    namespaces: HashMap<String, Namespace<W>>,
    /// Namespaces with somebody who waits and a free place, the next one first.
    order: VecDeque<String>,
    later: Later<W>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    /// What it was asked for meanwhile may be what it looked at before: once more.
    RunsAndWaits,
}

struct Namespace<W> {
    waiting: VecDeque<W>,
    running: usize,
    ordered: bool,
}

impl<W: Clone + Eq + Hash> Turns<W> {
    pub fn new(at_once: usize, namespace: fn(&W) -> &str) -> Turns<W> {
        Turns {
            namespace,
            free: at_once.max(1),
            known: HashMap::new(),
            namespaces: HashMap::new(),
            order: VecDeque::new(),
            later: Later::new(),
        }
    }

    pub fn ask(&mut self, who: W) {
        match self.known.get_mut(&who) {
            Some(State::Runs) => drop(self.known.insert(who, State::RunsAndWaits)),
            Some(_) => {}
            None => self.wait(who),
        }
    }

    /// Unless it is asked for earlier.
    pub fn ask_at(&mut self, who: W, time: Instant) {
        self.later.set(who, time);
    }

    /// When `ask_due` has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        self.later.first()
    }

    pub fn ask_due(&mut self, now: Instant) {
        while let Some(who) = self.later.take_due(now) {
            self.ask(who);
        }
    }

    /// Who runs now, until it is `done`.
    pub fn next(&mut self) -> Option<W> {
        if self.free == 0 {
            return None;
        }
        let name = self.order.pop_front()?;
        let namespace = self.namespaces.get_mut(&name)?;
        namespace.ordered = false;
        let who = namespace.waiting.pop_front()?;
        namespace.running += 1;
        self.free -= 1;
        self.known.insert(who.clone(), State::Runs);
        self.later.forget(&who);
        self.order(name);
        Some(who)
    }

    pub fn done(&mut self, who: W) {
        let name = (self.namespace)(&who).to_owned();
        let again = self.known.remove(&who) == Some(State::RunsAndWaits);
        self.free += 1;
        if let Some(namespace) = self.namespaces.get_mut(&name) {
            namespace.running = namespace.running.saturating_sub(1);
        }
        match again {
            true => self.wait(who),
            false => self.order(name),
        }
    }

    fn wait(&mut self, who: W) {
        let name = (self.namespace)(&who).to_owned();
        self.known.insert(who.clone(), State::Waits);
        let new = || Namespace { waiting: VecDeque::new(), running: 0, ordered: false };
        self.namespaces.entry(name.clone()).or_insert_with(new).waiting.push_back(who);
        self.order(name);
    }

    /// To the end of the line if it has a reason to stand there; forgotten if it has none to be known.
    fn order(&mut self, name: String) {
        let Some(namespace) = self.namespaces.get_mut(&name) else { return };
        if namespace.waiting.is_empty() {
            if namespace.running == 0 {
                self.namespaces.remove(&name);
            }
        } else if namespace.running < OF_ONE_NAMESPACE && !namespace.ordered {
            namespace.ordered = true;
            self.order.push_back(name);
        }
    }
}

/// One time for each; a number keeps those of the same instant apart.
struct Later<W> {
    times: HashMap<W, (Instant, u64)>,
    by_time: BTreeMap<(Instant, u64), W>,
    number: u64,
}

impl<W: Clone + Eq + Hash> Later<W> {
    fn new() -> Later<W> {
        Later { times: HashMap::new(), by_time: BTreeMap::new(), number: 0 }
    }

    fn set(&mut self, who: W, time: Instant) {
        self.forget(&who);
        self.number += 1;
        self.times.insert(who.clone(), (time, self.number));
        self.by_time.insert((time, self.number), who);
    }

    fn forget(&mut self, who: &W) {
        if let Some(key) = self.times.remove(who) {
            self.by_time.remove(&key);
        }
    }

    fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((time, _), _)| *time)
    }

    fn take_due(&mut self, now: Instant) -> Option<W> {
        self.first().filter(|first| *first <= now)?;
        let (_, who) = self.by_time.pop_first()?;
        self.times.remove(&who);
        Some(who)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Who = (&'static str, usize);

    fn turns(at_once: usize) -> Turns<Who> {
        Turns::new(at_once, |who| who.0)
    }

    fn all(turns: &mut Turns<Who>) -> Vec<Who> {
        std::iter::from_fn(|| turns.next()).collect()
    }

    #[test]
    fn a_namespace_has_a_few_places_and_others_do_not_wait_for_it() {
        let mut turns = turns(64);
        (0..100).for_each(|at| turns.ask(("many", at)));
        assert_eq!(all(&mut turns).len(), OF_ONE_NAMESPACE);
        turns.ask(("other", 0));
        assert_eq!(all(&mut turns), [("other", 0)]);
        turns.done(("many", 3));
        assert_eq!(all(&mut turns), [("many", OF_ONE_NAMESPACE)], "first come, first served");
    }

    #[test]
    fn namespaces_take_turns_where_places_are_few() {
        let mut turns = turns(1);
        (0..3).for_each(|at| turns.ask(("a", at)));
        turns.ask(("b", 0));
        let mut order = Vec::new();
        while let Some(who) = turns.next() {
            assert_eq!(turns.next(), None, "one place");
            order.push(who);
            turns.done(who);
        }
        assert_eq!(order, [("a", 0), ("b", 0), ("a", 1), ("a", 2)]);
        assert!(turns.namespaces.is_empty() && turns.known.is_empty(), "nobody is remembered");
    }

    #[test]
    fn requests_of_one_who_waits_are_one_and_one_who_runs_runs_once_more_afterwards() {
        let mut turns = turns(8);
        let who = ("a", 0);
        (0..3).for_each(|_| turns.ask(who));
        assert_eq!(all(&mut turns), [who]);
        (0..3).for_each(|_| turns.ask(who));
        assert_eq!(all(&mut turns), [], "never twice at the same time");
        turns.done(who);
        assert_eq!(all(&mut turns), [who]);
        turns.done(who);
        assert_eq!(all(&mut turns), []);
    }

    #[test]
    fn who_is_to_be_asked_later_is_asked_then_unless_it_ran_before() {
        let mut turns = turns(8);
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        turns.ask_at(("a", 0), after(2));
        turns.ask_at(("a", 0), after(3));
        turns.ask_at(("a", 1), after(1));
        turns.ask(("a", 1));
        assert_eq!(all(&mut turns), [("a", 1)]);
        assert_eq!(turns.next_due(), Some(after(3)), "the last word counts, and whoever ran has none");
        turns.ask_due(after(2));
        assert_eq!(all(&mut turns), []);
        turns.ask_due(after(3));
        assert_eq!(all(&mut turns), [("a", 0)]);
        assert_eq!(turns.next_due(), None);
    }
}
