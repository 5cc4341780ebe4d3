//! Some thousand inputs for each target: its seeds, and what comes of them by changes that are the same in each
//! run. `make fuzz` looks further.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says which input it was"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use connectors_fuzz::{Target, targets};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Of each target; together some seconds of an unoptimized build.
const INPUTS: usize = 3000;
/// Longer ones are cut.
const LONGEST: usize = 8192;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A change that one who looks for trouble would make.
fn change(input: &mut Vec<u8>, other: &[u8], words: &[&str], rng: &mut StdRng) {
    let at = rng.random_range(0..=input.len());
    let end = rng.random_range(at..=input.len().min(at + 64));
    match rng.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => drop(input.drain(at..end)),
        3 => {
            let again = input[at..end].repeat(rng.random_range(1..20));
            input.splice(at..at, again);
        }
        4 => {
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        5 => drop(input.splice(at..end, [b'0'; 24])),
        _ => drop(input.splice(at..at, words[rng.random_range(0..words.len())].bytes())),
    }
    input.truncate(LONGEST);
}

/// Whether the target breaks: the input is kept, for its author to move into `seeds`.
fn breaks(target: &Target, input: &[u8]) -> bool {
    let broken = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
    if broken {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broken-{}", target.name));
        std::fs::write(&kept, input).unwrap();
        eprintln!("{} breaks: {:?}, kept in {}", target.name, String::from_utf8_lossy(input), kept.display());
    }
    broken
}

#[test]
fn no_input_breaks_a_parser_or_what_must_hold_of_its_answer() {
    let mut broken = Vec::new();
    for target in targets() {
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let mut rng = StdRng::seed_from_u64(1);
        let one = |rng: &mut StdRng| seeds[rng.random_range(0..seeds.len())].1.clone();
        let made_up = (0..INPUTS).map(|_| {
            let (mut input, other) = (one(&mut rng), one(&mut rng));
            (0..rng.random_range(1..6)).for_each(|_| change(&mut input, &other, target.words, &mut rng));
            input
        });
        let all: Vec<Vec<u8>> = seeds.iter().map(|(_, seed)| seed.clone()).chain(made_up).collect();
        if all.iter().any(|input| breaks(&target, input)) {
            broken.push(target.name);
        }
    }
    assert_eq!(broken, [""; 0], "targets that broke");
}
