//! The machine's settings: `etc/sloth.conf`, lines of `key=value`, written by `cargo xtask run`.

use user::prelude::*;

/// The settings. An absent one has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The shell command to run, or `None` for an interactive shell.
    pub command: Option<Vec<u8>>,
    /// Where the shell's standard input comes from.
    pub input: Input,
    /// Whether read(2) is lazy, or `None` to keep the kernel's default.
    pub lazy: Option<bool>,
    /// The name of the mutant to choose in the servers.
    pub mutant: Option<String>,
    /// Number of blocks at the start of the disk with added files.
    pub placed_blocks: u64,
    /// The program of the shell on the console, or `None` for the system's own.
    pub shell: Option<Vec<u8>>,
    /// The type of the terminal, for the environment.
    pub terminal: Option<Vec<u8>>,
    /// Where to insert relays.
    pub relay: Relay,
    /// One message for each line that was not understood.
    pub complaints: Vec<String>,
}

/// Where the shell's standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// The console's terminal, on which the shell is interactive.
    #[default]
    Terminal,
    /// The host, byte by byte and with an end.
    Host,
    /// Nowhere: it is at its end.
    None,
}

/// Which relays to insert, and whether they log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relay {
    /// Insert one between the kernel and snapfs.
    pub client: bool,
    /// Insert one between snapfs and its base.
    pub base: bool,
    /// Log every message.
    pub log: bool,
}

impl Relay {
    /// Parses a comma-separated list of `client`, `base`, `log`.
    fn parse(text: &[u8]) -> Option<Relay> {
        let mut relay = Relay::default();
        for word in text.split(|byte| *byte == b',') {
            match word {
                b"client" => relay.client = true,
                b"base" => relay.base = true,
                b"log" => relay.log = true,
                _ => return None,
            }
        }
        Some(relay)
    }
}

impl Config {
    /// Reads the settings. A command extends to the end of the text, since it may contain newlines.
    /// No error is fatal.
    pub fn parse(text: &[u8]) -> Config {
        let mut config = Config::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(command) = rest.strip_prefix(b"command=") {
                config.command = Some(command.strip_suffix(b"\n").unwrap_or(command).to_vec());
                break;
            }
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            config.take_line(rest[..end].trim_ascii());
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        config
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.is_empty() || line.starts_with(b"#") {
            return;
        }
        let equals = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
        let value = line.get(equals + 1..).unwrap_or_default();
        match (&line[..equals], value) {
            (b"lazy", b"on") => self.lazy = Some(true),
            (b"lazy", b"off") => self.lazy = Some(false),
            (b"input", b"terminal") => self.input = Input::Terminal,
            (b"input", b"host") => self.input = Input::Host,
            (b"input", b"none") => self.input = Input::None,
            (b"mutant", name) => match core::str::from_utf8(name) {
                Ok(name) => self.mutant = Some(name.into()),
                Err(_) => self.complaints.push("the mutant's name is not text".into()),
            },
            (b"placed", number) => match core::str::from_utf8(number).map(str::parse) {
                Ok(Ok(blocks)) => self.placed_blocks = blocks,
                _ => self.complaints.push(format!("not a number: {}", Show(line))),
            },
            (b"shell", path) if path.starts_with(b"/") => self.shell = Some(path.to_vec()),
            (b"terminal", name) if !name.is_empty() => self.terminal = Some(name.to_vec()),
            (b"relay", words) => match Relay::parse(words) {
                Some(relay) => self.relay = relay,
                None => self.complaints.push(format!("no such relay: {}", Show(words))),
            },
            // For the reader only: the kernel knows how much memory there is.
            (b"memory", _) => {}
            _ => self.complaints.push(format!("not understood: {}", Show(line))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_extends_to_the_end() {
        let config =
            Config::parse(b"lazy=off\nmemory=128M\nmutant=skip-rescue\ncommand=echo a\nlazy=on\n");
        assert_eq!(config.command.as_deref(), Some(&b"echo a\nlazy=on"[..]));
        assert_eq!(config.lazy, Some(false));
        assert_eq!(config.mutant.as_deref(), Some("skip-rescue"));
        assert!(config.complaints.is_empty());
    }

    #[test]
    fn input_comes_from_a_terminal_unless_chosen() {
        let input = |text: &[u8]| Config::parse(text).input;
        assert_eq!([input(b""), input(b"input=host")], [Input::Terminal, Input::Host]);
        assert_eq!(input(b"input=none\ncommand=input=host"), Input::None);
    }

    #[test]
    fn relays_are_chosen_by_name() {
        assert_eq!(
            Config::parse(b"relay=base,log").relay,
            Relay { client: false, base: true, log: true }
        );
        let wrong = Config::parse(b"relay=base,all");
        assert_eq!((wrong.relay, wrong.complaints.len()), (Relay::default(), 1));
    }

    #[test]
    fn unknown_lines_are_reported_and_ignored() {
        let config = Config::parse(b"\xff\xfe=\x00\nlazy=maybe\n=\n===\nlazy");
        assert_eq!(config.complaints.len(), 5);
        assert_eq!((config.command, config.lazy), (None, None));
        assert_eq!(Config::parse(b""), Config::default());
    }
}
