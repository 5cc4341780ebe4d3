//! Last stage of a mount: puts the rendered files into the volume's tmpfs so that a reader sees all old or
//! all new ones. The layout is that of kubelet's own ConfigMap volumes: `<file> → ..data/<file>`, `..data →
//! ..<generation>`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Gid;
use secrecy::{ExposeSecret, SecretString};

use crate::error::Error;
use crate::mount::{self, Mounted, SelinuxContext};

/// File name → content.
pub type Files = BTreeMap<String, SecretString>;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// Names with this prefix are the machinery's, all others the user's.
const OWN: &str = "..";

/// Whether the Pod has files of an earlier publish: mounted by us, and the first write was completed.
pub fn is_published(target: &Path) -> io::Result<bool> {
    Ok(mount::mounted(target)? == Mounted::Ours && target.join(DATA).is_dir())
}

/// Removes the mount of a process that was killed before its first files: after a final refusal kubelet asks for nothing more,
/// and nobody else would.
pub fn remove_unpublished(target: &Path) -> io::Result<()> {
    if mount::mounted(target)? == Mounted::Ours && !target.join(DATA).is_dir() {
        mount::remove(target)?;
    }
    Ok(())
}

/// Mounts where nothing is mounted yet, writes, and undoes its own mount when that fails.
pub fn publish(
    target: &Path,
    selinux: Option<&SelinuxContext>,
    files: &Files,
    group: Option<u32>,
) -> Result<(), Error> {
    let node = |what| move |source| Error::Node { what, source };
    let fresh = match mount::mounted(target).map_err(node("inspect"))? {
        Mounted::Foreign => return Err(Error::Foreign(target.to_owned())),
        Mounted::Ours => false,
        Mounted::Nothing => true,
    };
    if fresh {
        mount::mount(target, selinux).map_err(node("mount"))?;
    }
    let written = swap(target, files, group).map_err(node("write"));
    if written.is_err() && fresh {
        mount::remove(target).map_err(node("unmount"))?;
    }
    written
}

/// The files of the last publish.
pub fn read(root: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(root.join(DATA))? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            files.insert(name, SecretString::from(fs::read_to_string(entry.path())?));
        }
    }
    Ok(files)
}

/// Replaces all files of the volume at once.
pub fn swap(root: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    // 1. What an interrupted write left behind goes first: the tmpfs holds only two generations.
    let old = fs::read_link(root.join(DATA)).ok();
    remove_own(root, |name| name != DATA && old.as_ref().is_none_or(|old| old.as_os_str() != name))?;
    // 2. The new generation, complete before anybody can see it.
    let generation =
        format!("{OWN}{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
    write_generation(&root.join(&generation), files, group)?;
    // 3. One rename makes it the current one: rename(2) replaces the link atomically.
    symlink(&generation, root.join(DATA_NEW))?;
    fs::rename(root.join(DATA_NEW), root.join(DATA))?;
    // 4. Names that are new point into it; those of before do already.
    for name in files.keys() {
        link(root, name)?;
    }
    // 5. Names that are no longer there go, and last the old generation.
    remove_visible(root, files)?;
    remove_own(root, |name| name != DATA && name != generation.as_str())
}

fn write_generation(folder: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(folder)?;
    for (name, content) in files {
        write_file(&folder.join(name), content, group)?;
    }
    // The umask is 0077; now others may enter.
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// 0444, or 0440 for root and the Pod's group where it has one.
fn write_file(path: &Path, content: &SecretString, group: Option<u32>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(content.expose_secret().as_bytes())?;
    if let Some(group) = group {
        rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)))?;
    }
    file.set_permissions(Permissions::from_mode(if group.is_some() { 0o440 } else { 0o444 }))
}

fn link(root: &Path, name: &str) -> io::Result<()> {
    match symlink(Path::new(DATA).join(name), root.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn remove_visible(root: &Path, files: &Files) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let stale =
            entry.file_name().to_str().is_none_or(|name| !name.starts_with(OWN) && !files.contains_key(name));
        if stale {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_own(root: &Path, unused: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(OWN) && unused(name)) else { continue };
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(root.join(name))?,
            false => fs::remove_file(root.join(name))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(name, content)| ((*name).to_owned(), SecretString::from(*content))).collect()
    }

    fn visible(root: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(OWN))
            .map(|name| (name.clone(), fs::read_to_string(root.join(&name)).unwrap()))
            .collect();
        found.sort();
        found
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
    }

    #[test]
    fn a_second_write_replaces_adds_and_removes() {
        let root = tempfile::tempdir().unwrap();
        swap(root.path(), &files(&[(".env", "1"), ("a", "1")]), None).unwrap();
        assert_eq!(visible(root.path()), pairs(&[(".env", "1"), ("a", "1")]));
        swap(root.path(), &files(&[("a", "2"), ("b", "2")]), None).unwrap();
        assert_eq!(visible(root.path()), pairs(&[("a", "2"), ("b", "2")]));
    }

    #[test]
    fn one_generation_remains_after_each_write_and_after_an_interrupted_one() {
        let root = tempfile::tempdir().unwrap();
        for content in ["1", "2"] {
            fs::create_dir(root.path().join("..123")).unwrap();
            fs::write(root.path().join("..123/a"), "half").unwrap();
            symlink("..123", root.path().join(DATA_NEW)).unwrap();
            swap(root.path(), &files(&[("a", content)]), None).unwrap();
            assert_eq!(visible(root.path()), pairs(&[("a", content)]));
            let own = fs::read_dir(root.path())
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name() != "a")
                .count();
            assert_eq!(own, 2, "..data and one generation");
        }
    }

    #[test]
    fn a_reader_that_opened_the_old_generation_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        swap(root.path(), &files(&[("a", "old")]), None).unwrap();
        let open = fs::File::open(root.path().join("a")).unwrap();
        swap(root.path(), &files(&[("a", "new")]), None).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "old");
    }

    #[test]
    fn files_are_for_all_or_for_the_group_and_never_writable() {
        let root = tempfile::tempdir().unwrap();
        let own_group = rustix::process::getgid().as_raw();
        for (group, mode) in [(None, 0o444), (Some(own_group), 0o440)] {
            swap(root.path(), &files(&[("a", "x")]), group).unwrap();
            let metadata = fs::metadata(root.path().join("a")).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn an_empty_write_withdraws_every_file() {
        let root = tempfile::tempdir().unwrap();
        swap(root.path(), &files(&[("a", "x")]), None).unwrap();
        swap(root.path(), &Files::new(), None).unwrap();
        assert_eq!(visible(root.path()), Vec::new());
    }
}
