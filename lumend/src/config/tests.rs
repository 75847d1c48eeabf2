use lumen_core::Encryption;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("lumen.toml")).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!((config.listen.port, config.listen.media_port()), (47800, 47801));
    assert_eq!(Config::load_or_default(Path::new("/nonexistent/lumen.toml")).unwrap(), config);
    assert!(Config::load(Path::new("/nonexistent/lumen.toml")).is_err());
}

/// The example in the documentation sets every key; a key added to one of the two fails here.
#[test]
fn the_documented_example_sets_every_key_to_its_default() {
    let document = include_str!("../../../docs/config.md");
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut expected = Config::default();
    expected.listen.media_port = Some(47801);
    expected.apps = vec![App::desktop()];
    assert_eq!(parse(example).unwrap(), expected);
    let keys = example.lines().filter(|line| line.contains('=')).filter_map(|line| line.split('=').next());
    let keys: Vec<_> = keys.map(str::trim).collect();
    assert_eq!(
        keys,
        [
            "address",
            "port",
            "media_port",
            "enabled",
            "base_port",
            "bind",
            "encryption",
            "enabled",
            "max",
            "kind",
            "exec",
            "source",
            "refresh_multiple",
            "backend",
            "bitrate_kbps",
            "full_range",
            "standby",
            "enabled",
            "sink",
            "gain_db",
            "socket",
            "enabled",
            "backend",
            "layout",
            "variant",
            "model",
            "options",
            "uid",
            "name",
            "command",
            "image",
            "prep",
            "undo"
        ]
    );
}

#[test]
fn values_are_read() {
    let config = parse("[listen]\naddress = \"::1\"\nport = 0\n[display]\nsource = \"output:DP-1\"\n").unwrap();
    assert_eq!(config.listen.address, Address::Ip("::1".parse().unwrap()));
    assert_eq!(config.listen.media_port(), 0);
    assert_eq!(config.display.source, DisplaySource::Output("DP-1".to_owned()));
    let text = "[desktop]\nkind = \"pattern\"\n[encode]\nbackend = \"x264\"\nfull_range = true\nstandby = true\n";
    let config = parse(text).unwrap();
    assert_eq!(config.desktop.kind, DesktopKind::Pattern);
    assert_eq!(config.encode, Encode { backend: Backend::X264, bitrate_kbps: 0, full_range: true, standby: true });
    let config = parse("[audio]\nsink = \"own\"\ngain_db = -1.25\nsocket = \"/run/pw/pipewire-0\"\n").unwrap();
    let socket = Some(PathBuf::from("/run/pw/pipewire-0"));
    assert_eq!(config.audio, Audio { enabled: true, sink: SinkChoice::Own, gain_decibels_tenths: -13, socket });
    assert_eq!(parse("[audio]\ngain_db = 6\n").unwrap().audio.gain_decibels_tenths, 60);
    let config = parse("[gamestream]\nbase_port = 6\nbind = \"::1\"\nencryption = \"required\"\n").unwrap();
    let bind = Address::Ip("::1".parse().unwrap());
    let expected = GameStream { enabled: true, base_port: 6, bind, encryption: Encryption::Required };
    assert_eq!(config.gamestream, expected);
    assert!(!parse("[discovery]\nenabled = false\n").unwrap().discovery.enabled);
    let apps = "[[app]]\nname = \"Steam\"\ncommand = \"steam\"\nimage = \"/a.png\"\nprep = [\"a\", \"b\"]\n[[app]]\nname = \"B\"\n";
    let config = parse(apps).unwrap();
    let steam = App {
        name: "Steam".to_owned(),
        command: "steam".to_owned(),
        image: Some(PathBuf::from("/a.png")),
        prep: vec!["a".to_owned(), "b".to_owned()],
        undo: Vec::new(),
    };
    assert_eq!(config.apps, [steam, App { name: "B".to_owned(), ..App::desktop() }]);
    // What the launcher is told is one argument.
    let long = |length: usize| format!("[[app]]\nname = \"A\"\ncommand = \"{}\"\n", "x".repeat(length));
    assert!(parse(&long(48 * 1024)).is_ok() && parse(&long(48 * 1024 + 1)).unwrap_err().contains("scripts"));
    let config = parse("[input]\nbackend = \"none\"\nlayout = \"de\"\nvariant = \"neo\"\n").unwrap();
    assert_eq!((config.input.backend, config.input.layout.as_str()), (HandsChoice::None, "de"));
}

#[test]
fn every_mistake_is_one_line_with_its_place() {
    for (text, place) in [
        ("[listen]\nprot = 1\n", "lumen.toml:2: listen.prot: "),
        ("[lisen]\n", "lumen.toml:1: lisen: "),
        ("\n[listen]\naddress = \"moon\"\n", "lumen.toml:3: listen.address: "),
        ("[listen]\nport = 70000\n", "lumen.toml:2: listen.port: "),
        ("[listen]\nport = 5\nmedia_port = 5\n", "lumen.toml:2: listen.port: "),
        ("[sessions]\nmax = 0\n", "lumen.toml:2: sessions.max: "),
        ("[desktop]\nkind = \"kde\"\n", "lumen.toml:2: desktop.kind: "),
        ("[desktop]\nexec = \"a\\nb\"\n", "lumen.toml:2: desktop.exec: "),
        ("[display]\nsource = \"output:\"\n", "lumen.toml:2: display.source: "),
        ("[encode]\nbitrate_kbps = 12\n", "lumen.toml:2: encode.bitrate_kbps: "),
        ("[encode]\nfull_range = \"yes\"\n", "lumen.toml:2: encode.full_range: "),
        ("[encode]\nbackend = \"nvenc\"\n", "lumen.toml:2: encode.backend: "),
        ("[display]\nrefresh_multiple = 0\n", "lumen.toml:2: display.refresh_multiple: "),
        ("[audio]\ngain_db = 21\n", "lumen.toml:2: audio.gain_db: "),
        ("[audio]\ngain_db = nan\n", "lumen.toml:2: audio.gain_db: "),
        ("[audio]\nsink = \"mine\"\n", "lumen.toml:2: audio.sink: "),
        ("[audio]\nsocket = \"pipewire-0\"\n", "lumen.toml:2: audio.socket: "),
        ("[input]\nbackend = \"x11\"\n", "lumen.toml:2: input.backend: "),
        ("[input]\nenabled = true\nlayout = \"atlantis\"\n", "lumen.toml:3: input.layout: "),
        ("[input]\nvariant = \"atlantis\"\n", "lumen.toml:2: input.variant: "),
        ("[input]\noptions = \"a b\"\n", "lumen.toml:2: input.options: "),
        ("[gamestream]\nbase_port = 5\n", "lumen.toml:2: gamestream.base_port: "),
        ("[gamestream]\nbase_port = 65515\n", "lumen.toml:2: gamestream.base_port: "),
        ("[gamestream]\nbind = \"eth0\"\n", "lumen.toml:2: gamestream.bind: "),
        ("[gamestream]\nencryption = \"never\"\n", "lumen.toml:2: gamestream.encryption: "),
        ("[discovery]\nenabled = 1\n", "lumen.toml:2: discovery.enabled: "),
        ("[[app]]\ncommand = \"x\"\n", "lumen.toml:1: app: "),
        ("[[app]]\nname = \"\"\n", "lumen.toml:2: app.name: "),
        ("[[app]]\nname = \"a\"\ncommand = \"b\\nc\"\n", "lumen.toml:3: app.command: "),
        ("[[app]]\nname = \"a\"\nimage = \"b.png\"\n", "lumen.toml:3: app.image: "),
        ("[[app]]\nname = \"a\"\nprep = [\"b\", \"\"]\n", "lumen.toml:3: app.prep: "),
        ("[[app]]\nname = \"a\"\nundo = \"b\"\n", "lumen.toml:3: app.undo: "),
        ("[[app]]\nname = \"a\"\n[[app]]\nname = \"A\"\n", "lumen.toml:1: app: "),
        ("[run]\nuid = 0\n", "lumen.toml:2: run.uid: "),
        ("[run\n", "lumen.toml:1: "),
        ("max = \n", "lumen.toml:1: max: "),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(place), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
