//! The flags of one program as a section of docs/reference-settings.md.

use clap::{Arg, Command};

use crate::schema::line;

const TABLE: &str = "\n| flag | environment | default | meaning |\n|---|---|---|---|\n";

pub fn section(program: &Command) -> String {
    // Completes what clap knows of each flag, such as the default of those that take no value.
    let mut program = program.clone();
    program.build();
    let rows: String = of(&program).map(row).collect();
    format!("\n### `{}`\n{TABLE}{rows}", program.get_name())
}

/// Without those that every program has.
fn of(program: &Command) -> impl Iterator<Item = &Arg> {
    program.get_arguments().filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
}

fn row(flag: &Arg) -> String {
    let quoted = |text: &str| format!("`{text}`");
    let defaults = flag.get_default_values().iter().map(|value| value.to_string_lossy());
    let default = defaults.filter(|value| !value.is_empty()).map(|value| quoted(&value)).collect::<String>();
    let name = flag.get_long().unwrap_or_default();
    line([
        quoted(&format!("--{name}")),
        flag.get_env().map(|name| quoted(&name.to_string_lossy())).unwrap_or_default(),
        if default.is_empty() { "none".to_owned() } else { default },
        flag.get_help()
            .map(|text| text.to_string().trim_end_matches('.').to_owned() + ".")
            .unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    #[test]
    fn every_flag_has_a_row_and_help_has_none() {
        let program = Command::new("tool").version("1").args([
            Arg::new("folder").long("folder").env("FOLDER").default_value("/etc").help("Where."),
            Arg::new("node").long("node").default_value("").help("Which"),
            Arg::new("quick").long("quick").action(ArgAction::SetTrue).help("Or not."),
        ]);
        let expected = "
### `tool`

| flag | environment | default | meaning |
|---|---|---|---|
| `--folder` | `FOLDER` | `/etc` | Where. |
| `--node` |  | none | Which. |
| `--quick` |  | `false` | Or not. |
";
        assert_eq!(section(&program), expected);
    }

    #[test]
    fn every_flag_of_a_part_has_a_meaning() {
        let programs = crate::programs();
        assert_eq!(programs.len(), 3);
        for program in &programs {
            for flag in of(program) {
                assert!(
                    flag.get_help().is_some(),
                    "{} of {} has no comment",
                    flag.get_id(),
                    program.get_name()
                );
            }
        }
    }
}
