//! The files of `systemd/`, as they are in the tree. They are whole: a package can use them without this program, if it
//! puts the programs where they say.

/// Name and text of a file.
pub type Text = (&'static str, &'static str);

/// Where the files say that the programs are.
pub const PROGRAMS: &str = "/usr/lib/lumen";
/// Where the user's unit says that identity and clients are kept.
pub const USER_STATE: &str = "%h/.local/state/lumen";

macro_rules! texts {
    ($($path:literal = $name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../systemd/", $path, $name)))),*]
    };
}

pub const USER: &[Text] = texts![
    "user/" = "lumend.service",
    "user/" = "lumen-state.service",
    "user/" = "lumen-capture.socket",
    "user/" = "lumen-capture@.service",
    "user/" = "lumen-encode.socket",
    "user/" = "lumen-encode@.service",
    "user/" = "lumen-net.socket",
    "user/" = "lumen-net@.service",
    "user/" = "lumen-input.socket",
    "user/" = "lumen-input@.service",
    "user/" = "lumen-audio.socket",
    "user/" = "lumen-audio@.service",
    "user/" = "lumen-launcher.socket",
    "user/" = "lumen-launcher@.service",
];

pub const SYSTEM: &[Text] = texts![
    "system/" = "lumend.service",
    "system/" = "lumen-capture.socket",
    "system/" = "lumen-capture@.service",
    "system/" = "lumen-encode.socket",
    "system/" = "lumen-encode@.service",
    "system/" = "lumen-net.socket",
    "system/" = "lumen-net@.service",
    "system/" = "lumen-input.socket",
    "system/" = "lumen-input@.service",
    "system/" = "lumen-audio.socket",
    "system/" = "lumen-audio@.service",
    "system/" = "lumen-launcher.socket",
    "system/" = "lumen-launcher@.service",
];

/// For each unit of a user's, in a directory of this name, where users have no namespaces: all planes', and lumend's.
pub const NO_NAMESPACES: &[Text] = texts!["" = "no-namespaces.conf"];
pub const DROP_INS: [&str; 2] = ["lumen-.service.d", "lumend.service.d"];

/// Who may make input devices, and the user that the rule names.
pub const UDEV: &[Text] = texts!["udev/" = "70-lumen.rules"];
pub const SYSUSERS: &[Text] = texts!["sysusers.d/" = "lumen.conf"];
pub const TMPFILES: &[Text] = texts!["tmpfiles.d/" = "lumen.conf"];

/// A unit as it is installed: with the programs in `programs`, and the state of a user's in `state` if that is not where
/// it usually is.
pub fn render(text: &str, programs: &str, state: Option<&str>) -> String {
    let text = text.replace(PROGRAMS, programs);
    match state {
        None => text,
        Some(state) => {
            let mut text = text.replace(USER_STATE, state);
            for role in ["run", "launcher"] {
                text = text.replace(&format!("/lumend {role}\n"), &format!("/lumend {role} --state {state}\n"));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_the_tree_is_embedded() {
        for (directory, texts) in
            [("user", USER), ("system", SYSTEM), ("udev", UDEV), ("sysusers.d", SYSUSERS), ("tmpfiles.d", TMPFILES)]
        {
            let path = format!("{}/../systemd/{directory}", env!("CARGO_MANIFEST_DIR"));
            let mut there: Vec<_> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            there.sort();
            let mut here: Vec<_> = texts.iter().map(|(name, _)| name.to_string()).collect();
            here.sort();
            assert_eq!(there, here, "{directory}");
        }
    }

    #[test]
    fn what_is_installed_names_the_directories_of_this_machine() {
        for (name, text) in USER.iter().chain(SYSTEM) {
            let unit = render(text, "/opt/lumen", Some("/srv/state"));
            assert!(!unit.contains(PROGRAMS) && !unit.contains(USER_STATE), "{name}");
            let program = name.ends_with(".service") && *name != "lumen-state.service";
            assert_eq!(unit.contains("ExecStart=/opt/lumen/lumen"), program, "{name}");
        }
        let (_, lumend) = USER[0];
        let (_, launcher) = USER[USER.len() - 1];
        assert!(render(lumend, "/opt/lumen", Some("/srv/state")).contains("/lumend run --state /srv/state\n"));
        assert!(render(launcher, "/opt/lumen", Some("/srv/state")).contains("/lumend launcher --state /srv/state\n"));
        assert!(render(lumend, "/opt/lumen", None).contains("/lumend run\n"));
        let (_, state) = USER[1];
        assert!(render(state, "/opt/lumen", Some("/srv/state")).ends_with("mkdir -p -m 0700 /srv/state\n"));
    }
}
