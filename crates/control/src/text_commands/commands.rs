//! Which commands there are, and what is said where there is none.

/// Said to those who may not.
pub(super) const DENIED: &str = "Permission denied\n";

/// A command as `help` shows it.
struct Command {
    usage: &'static str,
    about: &'static str,
}

const fn command(usage: &'static str, about: &'static str) -> Command {
    Command { usage, about }
}

/// All but those that every answer ends with, by name.
static COMMANDS: &[Command] = &[
    command(
        "disable server (DEPRECATED)",
        "disable a server for maintenance (use 'set server' instead)",
    ),
    command("enable server  (DEPRECATED)", "enable a disabled server (use 'set server' instead)"),
    command("get weight <bk>/<srv>", "report a server's current weight"),
    command("operator", "lower the level of the current CLI session to operator"),
    command("set server <bk>/<srv> [opts]", "change a server's state or weight"),
    command("set timeout [cli] <delay>", "change a timeout setting"),
    command(
        "set weight <bk>/<srv>  (DEPRECATED)",
        "change a server's weight (use 'set server' instead)",
    ),
    command("show backend", "list backends in the current running config"),
    command("show cli level", "display the level of the current CLI session"),
    command("show info [desc|json|typed]*", "report information about the running process"),
    command(
        "show servers conn [<backend>]",
        "dump server connections status (all or for a single backend)",
    ),
    command(
        "show servers state [<backend>]",
        "dump volatile server information (all or for a single backend)",
    ),
    command("show stat [json|no-maint|typed|up]*", "report counters for each proxy and server"),
    command("show version", "show version of the current process"),
    command("user", "lower the level of the current CLI session to user"),
];

static ALWAYS: &[Command] = &[
    command("help [<command>]", "list matching or all commands"),
    command("prompt", "toggle interactive mode with prompt"),
    command("quit", "disconnect"),
];

/// What there is, or what of it begins like this.
pub(super) fn help(like: &[&str]) -> String {
    let found = matching(like);
    let shown: Vec<&Command> = if found.is_empty() { COMMANDS.iter().collect() } else { found };
    list("The following commands are valid at this level:\n", &shown)
}

/// What is said of something that is no command.
pub(super) fn unknown(words: &[&str]) -> String {
    let found = matching(words);
    match words.is_empty() || found.is_empty() {
        true => {
            let all: Vec<&Command> = COMMANDS.iter().collect();
            list("Unknown command. Please enter one of the following commands only:\n", &all)
        }
        false => {
            let better =
                "Unknown command, but maybe one of the following ones is a better match:\n";
            list(better, &found)
        }
    }
}

/// The commands that have most of the first words in common.
fn matching(words: &[&str]) -> Vec<&'static Command> {
    let common = |command: &&Command| {
        let own = command.usage.split(' ');
        own.zip(words).take_while(|(own, word)| own.eq_ignore_ascii_case(word)).count()
    };
    let most = COMMANDS.iter().map(|command| common(&command)).max().unwrap_or(0);
    COMMANDS.iter().filter(|command| most > 0 && common(command) == most).collect()
}

fn list(heading: &str, commands: &[&Command]) -> String {
    let mut text = heading.to_owned();
    for Command { usage, about } in commands.iter().copied().chain(ALWAYS) {
        text.push_str(&format!("  {usage:<40}: {about}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_laid_out_as_haproxys() {
        let text = help(&["show", "servers"]);
        let expected = "\
The following commands are valid at this level:
  show servers conn [<backend>]           : dump server connections status (all or for a single backend)
  show servers state [<backend>]          : dump volatile server information (all or for a single backend)
  help [<command>]                        : list matching or all commands
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect
";
        assert_eq!(text, expected);
        assert!(help(&[]).lines().count() > 15);
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_comes_near() {
        let text = unknown(&["SHOW", "backends"]);
        assert!(text.starts_with("Unknown command, but maybe one of the following ones is a better match:\n  show backend"));
        assert!(!text.contains("set server"));
        let text = unknown(&["nonsense"]);
        assert!(
            text.starts_with("Unknown command. Please enter one of the following commands only:\n")
        );
        assert!(text.contains("  set server <bk>/<srv> [opts]            : "));
    }

    #[test]
    fn commands_stand_by_name() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.usage));
    }
}
