//! What volumes take of the driver's memory, whose limit is the node's for all: the kernel counts the pages of
//! their tmpfs as the driver's, also after the driver has started anew, and it remembers what each was made of.
//! A namespace is full when it has as much as is left (dynamic thresholds, as in the gateway): alone it may have
//! half, and what it has leaves room for the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connectors_api::item::size;

use crate::inputs::Inputs;
use crate::render::pages;
use crate::write::Files;

/// Of all volumes of a node. The limit is 256 MiB (config/csi/daemonset.yaml), the driver itself takes some 30, what its
/// concurrent publishes work on 64, and namespaces at their floor 50.
const MOST: usize = 96 << 20;
/// What a namespace may have however little is left, and in pages, of which an ordinary volume takes ten. A node has some
/// hundred Pods.
const FLOOR: usize = 512 << 10;
const FLOOR_PAGES: usize = 16;
/// Beside its files, of a volume that was there before this process.
const ORDINARY: usize = 128 << 10;

/// Of the kernel for a file and its link.
const FILE: usize = 2 << 10;
/// Bytes that an object takes for one of its JSON.
const OBJECT: usize = 3;

/// What a volume takes for its files, and what for the rest.
#[derive(Clone, Copy)]
pub struct Weight {
    pub files: usize,
    pub rest: usize,
}

/// Of files in pages of so many bytes.
pub fn written(files: &Files, page: usize) -> Weight {
    Weight { files: pages(files, page) * page + files.len() * FILE, rest: 0 }
}

pub fn weight(files: &Files, inputs: &Inputs, page: usize) -> Weight {
    let connectors = inputs.connectors.iter().map(|one| size(&one.connector));
    // Those of one class share it.
    let classes: BTreeMap<_, _> =
        inputs.connectors.iter().map(|one| (Arc::as_ptr(&one.class), &*one.class)).collect();
    let objects = connectors.chain(classes.values().map(size)).fold(0, usize::saturating_add);
    let rest = objects.saturating_mul(OBJECT).saturating_add(inputs.ca_bundle.len());
    Weight { rest, ..written(files, page) }
}

/// Of a node, whose kernel has pages of so many bytes.
pub struct Room {
    pub page: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    of: HashMap<String, usize>,
}

impl Room {
    pub fn new(page: usize) -> Room {
        Room { page, held: Mutex::default() }
    }

    fn floor(&self) -> usize {
        FLOOR.max(FLOOR_PAGES * self.page)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a volume, given back when it is dropped.
pub struct Portion {
    room: Arc<Room>,
    namespace: String,
    bytes: usize,
    /// The volume is there, whether or not its next publish succeeds.
    stays: bool,
}

impl Portion {
    pub fn new(room: &Arc<Room>, namespace: &str) -> Portion {
        Portion { room: room.clone(), namespace: namespace.to_owned(), bytes: 0, stays: false }
    }

    /// What the volume takes from now on. False if there is no room for more than it had.
    pub fn set(&mut self, bytes: usize) -> bool {
        let (more, room) = (bytes.saturating_sub(self.bytes), self.room.clone());
        let mut held = room.held();
        let all = held.all.saturating_add(more);
        let of = held.of.get(&self.namespace).copied().unwrap_or_default().saturating_add(more);
        let fits = more == 0 || of <= MOST.saturating_sub(all).max(room.floor());
        if fits {
            self.change(&mut held, bytes);
        }
        fits
    }

    /// The volume is there, and nobody but us has made it larger.
    pub fn has(&mut self, bytes: usize) {
        let room = self.room.clone();
        self.change(&mut room.held(), bytes);
    }

    /// The same of one that was there before this process, which had its room then. Not what its Connectors may have become
    /// since.
    pub fn had(&mut self, weight: Weight) {
        self.stays = true;
        self.has(weight.files.saturating_add(weight.rest.min(ORDINARY)));
    }

    pub fn stays(&self) -> bool {
        self.stays
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
        let room = Arc::new(Room::new(4 << 10));
        let mut all: Vec<Vec<Portion>> =
            ["one", "two", "three"].iter().map(|namespace| fill(&room, namespace)).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [96, 48, 24]);
        let more: Vec<_> = (0..100).map(|number| fill(&room, &format!("more{number}"))).collect();
        assert!(more.iter().all(|volumes| !volumes.is_empty()), "one has no room for a single volume");
        assert!(room.held().all < 150 << 20);
        assert!(all[0][0].set(VOLUME / 2), "a volume cannot become smaller");
        assert!(!all[0][0].set(VOLUME), "a volume of a full namespace has grown");
        drop((all, more));
        let held = room.held();
        assert_eq!((held.all, held.of.len()), (0, 0));
    }

    /// The built-in files and two kubeconfigs, none of which fills a page.
    #[test]
    fn an_ordinary_volume_weighs_its_pages_and_finds_room_on_a_full_node_whatever_the_kernels_page_is() {
        let files: Files = (0..10).map(|number| (number.to_string(), "x".repeat(3000).into())).collect();
        for (page, weighs) in [(4 << 10, 60 << 10), (16 << 10, 180 << 10), (64 << 10, 660 << 10)] {
            let weight = written(&files, page);
            assert_eq!(weight.files, weighs, "pages of {page}");
            let room = Arc::new(Room::new(page));
            let mut others = Portion::new(&room, "others");
            others.has(MOST);
            assert!(Portion::new(&room, "new").set(weight.files + ORDINARY), "pages of {page}");
        }
    }

    #[test]
    fn volumes_of_before_have_their_room_and_no_more_than_they_can_have_had() {
        let room = Arc::new(Room::new(4 << 10));
        let others = fill(&room, "others");
        let mut before: Vec<_> = (0..200)
            .map(|_| {
                let mut portion = Portion::new(&room, "old");
                portion.had(Weight { files: VOLUME, rest: 6 << 20 });
                portion
            })
            .collect();
        assert_eq!(room.held().of["old"], 200 * (VOLUME + ORDINARY));
        assert!(!before[0].set(6 << 20), "one has become larger");
        assert_eq!(fill(&room, "old").len(), 0);
        drop((before, others));
        assert_eq!(fill(&room, "old").len(), 96);
    }
}
