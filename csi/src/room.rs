//! What volumes take of the driver's memory, whose limit is the node's for all: the kernel counts the pages of
//! their tmpfs as the driver's, also after the driver has started anew, and it remembers what each was made of.
//! A namespace is full when it has as much as is left (dynamic thresholds, as in the gateway): alone it may have
//! half, and what it has leaves room for the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connectors_api::item::size;
use secrecy::ExposeSecret;

use crate::inputs::Inputs;
use crate::render::{PAGE, pages};
use crate::write::Files;

/// Of all volumes of a node. The limit is 256 MiB (config/csi/daemonset.yaml), the driver itself takes some 30, and
/// what its concurrent publishes work on as much.
const MOST: usize = 112 << 20;
/// What a namespace may have however little is left. A node has some hundred Pods.
const FLOOR: usize = 512 << 10;

/// Of the kernel for a file and its link.
const FILE: usize = 2 << 10;
/// Bytes that an object takes for one of its JSON.
const OBJECT: usize = 3;

/// What a volume takes.
pub fn weight(files: &Files, inputs: &Inputs) -> usize {
    let written: usize = files.values().map(|content| pages(content.expose_secret()) * PAGE + FILE).sum();
    let connectors: usize = inputs.connectors.iter().map(|one| size(&one.connector)).sum();
    // Those of one class share it.
    let classes: BTreeMap<_, _> =
        inputs.connectors.iter().map(|one| (Arc::as_ptr(&one.class), &*one.class)).collect();
    let classes: usize = classes.values().map(size).sum();
    written + OBJECT * (connectors + classes) + inputs.ca_bundle.len()
}

/// Of a node.
#[derive(Default)]
pub struct Room(Mutex<Held>);

#[derive(Default)]
struct Held {
    all: usize,
    of: HashMap<String, usize>,
    /// Of volumes that were there before this process and have not been published again.
    unknown: usize,
}

impl Room {
    /// Beside what mounted volumes take already.
    pub fn beside(mounted: usize) -> Room {
        Room(Mutex::new(Held { unknown: mounted, ..Held::default() }))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a volume, given back when it is dropped.
pub struct Portion {
    room: Arc<Room>,
    namespace: String,
    bytes: usize,
}

impl Portion {
    pub fn new(room: &Arc<Room>, namespace: &str) -> Portion {
        Portion { room: room.clone(), namespace: namespace.to_owned(), bytes: 0 }
    }

    /// What the volume takes from now on. False if there is no room for more than it had.
    pub fn set(&mut self, bytes: usize) -> bool {
        let (more, room) = (bytes.saturating_sub(self.bytes), self.room.clone());
        let mut held = room.held();
        let left = MOST.saturating_sub(held.all + held.unknown + more).max(FLOOR);
        let fits = more == 0 || held.of.get(&self.namespace).copied().unwrap_or_default() + more <= left;
        if fits {
            self.change(&mut held, bytes);
        }
        fits
    }

    /// It was there before this process, and had its room then.
    pub fn adopt(&mut self, bytes: usize) {
        let room = self.room.clone();
        let mut held = room.held();
        held.unknown = held.unknown.saturating_sub(bytes);
        self.change(&mut held, bytes);
    }

    fn change(&mut self, held: &mut Held, bytes: usize) {
        let of = held.of.entry(self.namespace.clone()).or_default();
        *of = *of - self.bytes + bytes;
        if *of == 0 {
            held.of.remove(&self.namespace);
        }
        held.all = held.all - self.bytes + bytes;
        self.bytes = bytes;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: usize = 512 << 10;

    /// As many volumes as find room.
    fn fill(room: &Arc<Room>, namespace: &str) -> Vec<Portion> {
        std::iter::from_fn(|| {
            let mut portion = Portion::new(room, namespace);
            portion.set(VOLUME).then_some(portion)
        })
        .take(1000)
        .collect()
    }

    #[test]
    fn a_namespace_leaves_the_next_as_much_as_it_has_and_gives_all_back() {
        let room = Arc::new(Room::default());
        let mut all: Vec<Vec<Portion>> =
            ["one", "two", "three"].iter().map(|namespace| fill(&room, namespace)).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [112, 56, 28]);
        let more: Vec<_> = (0..100).map(|number| fill(&room, &format!("more{number}"))).collect();
        assert!(more.iter().all(|volumes| !volumes.is_empty()), "one has no room for a single volume");
        assert!(room.held().all < 168 << 20);
        assert!(all[0][0].set(VOLUME / 2), "a volume cannot become smaller");
        assert!(!all[0][0].set(VOLUME), "a volume of a full namespace has grown");
        drop((all, more));
        let held = room.held();
        assert_eq!((held.all, held.of.len()), (0, 0));
    }

    #[test]
    fn volumes_of_before_have_their_room_before_and_after_they_are_known() {
        let room = Arc::new(Room::beside(100 << 20));
        assert_eq!(fill(&room, "new").len(), 12);
        let adopted: Vec<_> = (0..200)
            .map(|_| {
                let mut portion = Portion::new(&room, "old");
                portion.adopt(VOLUME);
                portion
            })
            .collect();
        assert_eq!(room.held().unknown, 0);
        assert_eq!((fill(&room, "old").len(), fill(&room, "new").len()), (0, 12));
        drop(adopted);
        assert_eq!(fill(&room, "old").len(), 112);
    }
}
