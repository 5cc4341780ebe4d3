//! Slash-separated paths, as Go's package `path`.

use gotmpl::Value;

use super::super::value::text;
use super::Entry;

pub const FUNCTIONS: &[Entry] = &[
    ("base", 1, 1, |args| Ok(text(base(args.text(0)?)))),
    ("dir", 1, 1, |args| {
        args.text(0).map(|path| text(clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])))
    }),
    ("ext", 1, 1, |args| args.text(0).map(|path| text(extension(path)))),
    ("clean", 1, 1, |args| Ok(text(clean(args.text(0)?)))),
    ("isAbs", 1, 1, |args| Ok(Value::Bool(args.text(0)?.starts_with('/')))),
    // The classes of a cluster are written for Linux, whatever the machine of who tries them.
    ("osBase", 1, 1, |args| Ok(text(base(args.text(0)?)))),
    ("osDir", 1, 1, |args| {
        args.text(0).map(|path| text(clean(&path[..path.rfind('/').map_or(0, |at| at + 1)])))
    }),
    ("osExt", 1, 1, |args| args.text(0).map(|path| text(extension(path)))),
    ("osClean", 1, 1, |args| Ok(text(clean(args.text(0)?)))),
    ("osIsAbs", 1, 1, |args| Ok(Value::Bool(args.text(0)?.starts_with('/')))),
];

fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rfind('.').map_or("", |at| &name[at..])
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match (segment, kept.last()) {
            ("..", Some(last)) if *last != ".." => drop(kept.pop()),
            ("..", _) if rooted => {}
            _ => kept.push(segment),
        }
    }
    match (rooted, kept.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".into(),
        (false, joined) => joined,
    }
}
