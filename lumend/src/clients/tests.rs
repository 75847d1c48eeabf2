use super::*;

/// A state directory of one test, removed with it.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lumen-clients-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        durable::private_directory(&path).unwrap();
        Self(path)
    }

    fn load(&self) -> Clients {
        Clients::load(&self.0).unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(self.0.join(FILE), text).unwrap();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ONE: Fingerprint = Fingerprint([1; 32]);
const TWO: Fingerprint = Fingerprint([2; 32]);
const STRANGER: Fingerprint = Fingerprint([3; 32]);
const STRANGER_TOO: Fingerprint = Fingerprint([4; 32]);

fn change(text: &str) -> Change {
    text.parse().unwrap()
}

fn rights(names: &[Permission]) -> Rights {
    names.iter().fold(Rights::NONE, |sum, &one| sum.with(one, true))
}

#[test]
fn the_list_survives_a_restart() {
    let state = State::new("kept");
    let mut clients = state.load();
    assert!(!clients.any_native());
    assert!(clients.allow(ONE).unwrap() && clients.allow(TWO).unwrap() && !clients.allow(TWO).unwrap());
    assert!(clients.forbid(ONE).unwrap() && !clients.forbid(ONE).unwrap());
    let again = state.load();
    assert!(again.get(TWO).is_some() && again.get(ONE).is_none() && again.any_native());
    assert_eq!(again.rights(STRANGER), Rights::NONE);
}

#[test]
fn what_is_known_of_a_client_survives_a_restart() {
    let state = State::new("known");
    let mut clients = state.load();
    clients.allow(ONE).unwrap();
    clients.pair(TWO, Some("The \"big\" \\ one"), "roth").unwrap();
    assert!(clients.permit(TWO, &change("-keyboard,launch")).unwrap());
    assert!(!clients.permit(TWO, &change("-keyboard,launch")).unwrap());
    assert!(clients.permit(ONE, &change("none")).unwrap() && !clients.permit(STRANGER, &change("all")).unwrap());
    assert!(clients.enable(ONE, false).unwrap() && !clients.enable(ONE, false).unwrap());
    assert!(!clients.enable(STRANGER, true).unwrap(), "an unknown client is not let in by enabling it");
    let again = state.load();
    let two = Client {
        face: Face::GameStream,
        name: "The \"big\" \\ one".into(),
        enabled: true,
        rights: rights(&[Permission::View, Permission::Pointer, Permission::Gamepad]),
    };
    assert_eq!(again.get(TWO), Some(&two));
    let one = Client { face: Face::Lumen, name: String::new(), enabled: false, rights: Rights::NONE };
    assert_eq!(again.get(ONE), Some(&one));
    assert!(again.get(STRANGER).is_none());
    assert_eq!(again.json_of(TWO)["permissions"], json!(["view", "pointer", "gamepad"]));
    assert_eq!(again.json_of(TWO)["protocol"], "gamestream");
}

/// As the file was before there were Moonlight clients, and before there was input.
#[test]
fn old_lists_are_read_and_take_nothing_away() {
    let state = State::new("old");
    let hands = format!("[[client]]\nsha256 = \"{TWO}\"\npermissions = [\"pointer\"]\n");
    state.write(&format!("# Clients.\n[[client]]\nsha256 = \"{ONE}\"\n\n{hands}"));
    let mut clients = state.load();
    assert_eq!(clients.get(ONE).map(|one| (one.face, one.enabled, one.rights)), Some((Face::Lumen, true, Rights::ALL)));
    let pointer = rights(&[Permission::View, Permission::Pointer, Permission::Launch]);
    assert_eq!(clients.rights(TWO), pointer);
    // Written once by this lumend, it says the same.
    clients.permit(ONE, &change("-view")).unwrap();
    let again = state.load();
    assert_eq!((again.rights(ONE).view, again.rights(TWO)), (false, pointer));
}

#[test]
fn files_that_make_no_sense_are_errors() {
    let state = State::new("nonsense");
    for (entry, reason) in [
        ("sha256 = \"12\"".to_owned(), "no fingerprint"),
        (format!("sha256 = \"{ONE}\"\npermissions = [\"feet\"]"), "feet"),
        (format!("sha256 = \"{ONE}\"\nface = \"moon\""), "moon"),
        (format!("sha256 = \"{ONE}\"\nname = \" x\""), "no name"),
        (format!("sha256 = \"{ONE}\"\nname = \"x\"\n[[client]]\nsha256 = \"{TWO}\"\nname = \"x\""), "another's"),
        (format!("sha256 = \"{ONE}\"\ncolour = \"red\""), "colour"),
    ] {
        state.write(&format!("[[client]]\n{entry}\n"));
        let error = Clients::load(&state.0).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn clients_are_found_by_name_or_by_the_beginning_of_their_fingerprint() {
    let state = State::new("find");
    let mut clients = state.load();
    clients.allow(ONE).unwrap();
    clients.pair(TWO, Some("Sofa"), "").unwrap();
    assert_eq!((clients.find("01"), clients.find(&TWO.to_string())), (Ok(ONE), Ok(TWO)));
    assert_eq!((clients.find("Sofa"), clients.find("sofa")), (Ok(TWO), Err(FindError::None)));
    let nobody = Err(FindError::None);
    assert_eq!((clients.find("0"), clients.find("03"), clients.find("")), (Err(FindError::Many), nobody, nobody));
    // A name that looks like the beginning of another's fingerprint is the name.
    clients.rename(TWO, "01").unwrap();
    assert_eq!(clients.find("01"), Ok(TWO));
    clients.rename(TWO, &ONE.to_string()).unwrap();
    assert_eq!(clients.find(&ONE.to_string()), Ok(ONE), "all of a fingerprint is nobody's name");
}

#[test]
fn names_are_printable_and_nobody_elses() {
    let state = State::new("names");
    let mut clients = state.load();
    clients.pair(ONE, None, "roth").unwrap();
    clients.pair(TWO, None, "  ").unwrap();
    clients.pair(STRANGER, None, &format!("\x1b[2J{}", "x".repeat(100))).unwrap();
    let name = |clients: &Clients, client| clients.get(client).unwrap().name.clone();
    assert_eq!((name(&clients, ONE).as_str(), name(&clients, TWO).as_str()), ("Moonlight", "Moonlight 2"));
    assert!(name(&clients, STRANGER).starts_with("[2Jxx") && name(&clients, STRANGER).len() <= MAX_NAME);
    let beginning = ONE.to_string()[..4].to_uppercase();
    clients.pair(STRANGER_TOO, None, &beginning).unwrap();
    assert_eq!(name(&clients, STRANGER_TOO), format!("{beginning} 2"), "it stands for another's fingerprint");
    for wrong in ["", " x", "a\nb", "Moonlight", &"x".repeat(MAX_NAME + 1)] {
        assert!(matches!(clients.rename(TWO, wrong), Err(ClientsError::Name(_))), "{wrong:?}");
        assert!(matches!(clients.may_pair(TWO, Some(wrong)), Err(ClientsError::Name(_))), "{wrong:?}");
    }
    assert!(clients.rename(ONE, "Sofa").unwrap() && !clients.rename(ONE, "Sofa").unwrap());
    assert_eq!(name(&state.load(), ONE), "Sofa");
}

#[test]
fn pairing_again_changes_no_persons_word() {
    let state = State::new("again");
    let mut clients = state.load();
    clients.pair(ONE, Some("Sofa"), "roth").unwrap();
    clients.permit(ONE, &change("view")).unwrap();
    clients.pair(ONE, None, "roth").unwrap();
    assert_eq!((clients.get(ONE).unwrap().name.as_str(), clients.rights(ONE)), ("Sofa", rights(&[Permission::View])));
    clients.enable(ONE, false).unwrap();
    assert_eq!(clients.rights(ONE), Rights::NONE, "whatever it may do, it is turned away");
    assert!(matches!(clients.may_pair(ONE, None), Err(ClientsError::Disabled)));
    assert!(matches!(clients.pair(ONE, None, "roth"), Err(ClientsError::Disabled)));
    assert!(!clients.get(ONE).unwrap().enabled);
    // One certificate is a client of one protocol.
    clients.allow(TWO).unwrap();
    assert!(matches!(clients.pair(TWO, None, "roth"), Err(ClientsError::OtherFace(Face::Lumen))));
    assert!(matches!(clients.allow(ONE), Err(ClientsError::OtherFace(Face::GameStream))));
    clients.forbid(TWO).unwrap();
    assert!(!clients.any_native(), "Moonlight clients do not open the other protocol's ports");
}

#[test]
fn the_list_is_bounded() {
    let state = State::new("bounded");
    let entry = |index: usize| format!("[[client]]\nsha256 = \"{}\"\n", Fingerprint::of(&index.to_le_bytes()));
    state.write(&(0..MAX_CLIENTS).map(entry).collect::<String>());
    let mut clients = state.load();
    assert!(matches!(clients.allow(ONE), Err(ClientsError::Full)));
    assert!(matches!(clients.pair(ONE, None, "roth"), Err(ClientsError::Full)));
    assert!(!clients.allow(Fingerprint::of(&0_usize.to_le_bytes())).unwrap(), "a known one is known still");
}

/// What a power cut can leave, and a disk that takes nothing: the list is the old or the new, in memory as on disk.
#[test]
fn a_change_is_whole_or_did_not_happen() {
    let state = State::new("whole");
    let mut clients = state.load();
    clients.allow(ONE).unwrap();
    let beside = state.0.join(format!("{FILE}.new"));
    fs::write(&beside, "[[client]]\nsha2").unwrap();
    assert!(state.load().get(ONE).is_some(), "half a file beside the list is not the list");
    clients.allow(TWO).unwrap();
    assert!(state.load().get(TWO).is_some() && !beside.exists());

    // A directory cannot be replaced by the new list's file.
    fs::create_dir(&beside).unwrap();
    assert!(matches!(clients.pair(STRANGER, None, "roth"), Err(ClientsError::Io { .. })));
    assert!(matches!(clients.forbid(ONE), Err(ClientsError::Io { .. })));
    for clients in [&clients, &state.load()] {
        assert!(clients.get(STRANGER).is_none(), "nobody is trusted who is not on disk");
        assert!(clients.get(ONE).is_some());
    }
}
