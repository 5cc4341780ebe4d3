//! The tmpfs of a volume, directly on kubelet's target path. What is mounted is read from the kernel and
//! never remembered, so a new process of the driver goes on with the mounts of the old one. `write` fills it,
//! `node` removes it.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Source name of our mounts in /proc/self/mountinfo: what is not called so is not ours.
const SOURCE: &str = "connectors-csi";
const FILE_SYSTEM: &str = "tmpfs";
/// Pages of the kernel, of which each file takes whole ones: by bytes, a kernel with larger pages would give too few. Two
/// generations of files fit while one replaces the other (`write`).
pub const BLOCKS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    Nothing,
    Ours,
    Foreign,
}

/// A validated SELinux label, e.g. `system_u:object_r:container_file_t:s0:c1,c2`.
#[derive(Clone, Debug)]
pub struct SelinuxContext(String);

impl SelinuxContext {
    /// Reads `context="…"`. The label ends up in a list of mount options, so nothing that could end it is let
    /// in.
    pub fn parse(option: &str) -> Option<SelinuxContext> {
        let label = option.strip_prefix("context=")?.trim_matches('"');
        let valid = |c: char| c.is_ascii_alphanumeric() || "_:.,-".contains(c);
        (!label.is_empty() && label.chars().all(valid)).then(|| SelinuxContext(label.to_owned()))
    }
}

/// What lies on top at this path.
pub fn mounted(target: &Path) -> io::Result<Mounted> {
    let Some(target) = canonical(target)? else { return Ok(Mounted::Nothing) };
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(find(&table, &target))
}

/// Makes the folder and mounts an empty tmpfs on it.
pub fn mount(target: &Path, selinux: Option<&SelinuxContext>) -> io::Result<()> {
    match fs::create_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ if !fs::symlink_metadata(target)?.is_dir() => {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        _ => fs::set_permissions(target, Permissions::from_mode(0o750))?,
    }
    // noswap is known from Linux 6.4 on, and not allowed in a user namespace.
    match mount_tmpfs(target, true, selinux) {
        Err(Errno::INVAL | Errno::PERM) => Ok(mount_tmpfs(target, false, selinux)?),
        result => Ok(result?),
    }
}

/// Removes our mounts, however many lie on each other, and then the folder. Nothing there is fine.
pub fn remove(target: &Path) -> io::Result<Mounted> {
    while mounted(target)? == Mounted::Ours {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // A file is still open somewhere in this namespace: the memory goes with the last user.
            Err(Errno::BUSY) => {
                rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?
            }
            result => result?,
        }
    }
    match mounted(target)? {
        Mounted::Foreign => return Ok(Mounted::Foreign),
        Mounted::Nothing | Mounted::Ours => {}
    }
    match fs::remove_dir(target) {
        Ok(()) => Ok(Mounted::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mounted::Nothing),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory) =>
        {
            Ok(Mounted::Foreign)
        }
        Err(error) => Err(error),
    }
}

fn mount_tmpfs(target: &Path, noswap: bool, selinux: Option<&SelinuxContext>) -> Result<(), Errno> {
    let swap = if noswap { ",noswap" } else { "" };
    let context = selinux.map(|SelinuxContext(label)| format!(",context=\"{label}\"")).unwrap_or_default();
    let options =
        CString::new(format!("nr_blocks={BLOCKS},mode=0755{swap}{context}")).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(SOURCE, target, FILE_SYSTEM, flags, options.as_c_str())
}

/// The kernel lists resolved paths. Only the parent is resolved: the last part must be the mount point
/// itself.
fn canonical(target: &Path) -> io::Result<Option<PathBuf>> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Ok(None) };
    match parent.canonicalize() {
        Ok(parent) => Ok(Some(parent.join(name))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The last line for a path is what lies on top. Format: proc_pid_mountinfo(5).
fn find(table: &[u8], target: &Path) -> Mounted {
    let mut lines = table.split(|byte| *byte == b'\n').filter_map(entry);
    let on_top = lines.rfind(|(path, _)| path == target);
    match on_top {
        None => Mounted::Nothing,
        Some((_, true)) => Mounted::Ours,
        Some((_, false)) => Mounted::Foreign,
    }
}

/// Mount point, and whether it is one of ours.
fn entry(line: &[u8]) -> Option<(PathBuf, bool)> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let ours = fields.get(separator + 1..separator + 3)? == [FILE_SYSTEM.as_bytes(), SOURCE.as_bytes()];
    Some((PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.get(4)?))), ours))
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| octal(tail)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits.get(..3)?).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:30 / /pods/a/mount rw,nosuid shared:2 - tmpfs connectors-csi rw,size=1024k
41 22 0:31 / /pods/b/mount rw,nosuid - tmpfs tmpfs rw
42 22 0:32 / /pods/with\\040space/mount rw - tmpfs connectors-csi rw
43 40 0:33 / /pods/a/mount rw - ext4 /dev/vdb rw
44 22 0:34 / /pods/c/mount rw - overlay connectors-csi rw
";

    #[test]
    fn only_a_tmpfs_of_our_name_on_top_is_ours() {
        for (path, mounted) in [
            ("/pods/a/mount", Mounted::Foreign),
            ("/pods/b/mount", Mounted::Foreign),
            ("/pods/c/mount", Mounted::Foreign),
            ("/pods/with space/mount", Mounted::Ours),
            ("/pods/a", Mounted::Nothing),
            ("/", Mounted::Foreign),
        ] {
            assert_eq!(find(TABLE.as_bytes(), Path::new(path)), mounted, "{path}");
        }
        let below = TABLE.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(find(below.as_bytes(), Path::new("/pods/a/mount")), Mounted::Ours);
    }

    #[test]
    fn a_selinux_label_cannot_bring_other_mount_options() {
        for (option, accepted) in [
            (r#"context="system_u:object_r:container_file_t:s0:c1,c2""#, true),
            ("context=system_u:object_r:container_file_t:s0", true),
            (r#"context="a",exec"#, false),
            ("context=", false),
            ("rootcontext=a", false),
            ("exec", false),
        ] {
            assert_eq!(SelinuxContext::parse(option).is_some(), accepted, "{option}");
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("mount");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("precious"), "x").unwrap();
        assert_eq!(remove(&target).unwrap(), Mounted::Foreign);
        assert!(target.join("precious").exists());
    }

    #[test]
    fn nothing_to_remove_is_fine_even_without_the_parent_folder() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["gone", "gone/too/mount"] {
            assert_eq!(remove(&folder.path().join(path)).unwrap(), Mounted::Nothing);
        }
    }
}
