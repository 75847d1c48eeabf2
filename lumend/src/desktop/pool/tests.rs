//! Who gets which desktop; what a launcher that is none leads to.

use std::fs::File;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::config::Display;
use crate::launcher::Commands;
use crate::reach::above_link;

const ATTEMPT: Attempt = Attempt(1);

/// Desktops whose launcher is a program that ends at once.
fn pool(most: u32) -> Pool {
    let program = above_link(File::open("/bin/true").unwrap().as_fd()).unwrap();
    let runtime = std::env::temp_dir().join(format!("lumen-pool-{}", std::process::id()));
    let terms = Terms { display: Display::default(), seats: 1, own: true };
    let program = Rc::new(Program::new(program, (&runtime, &runtime.join("undo")), "", 1, &[Commands::default()]));
    let mut pool = Pool { program, terms, most, desktops: Vec::new(), hopeless: None };
    pool.add();
    pool
}

fn acquire(pool: &mut Pool, session: u32) -> Option<u32> {
    acquire_for(pool, session, None)
}

fn acquire_for(pool: &mut Pool, session: u32, run: Option<RunId>) -> Option<u32> {
    let mode = Mode::new(640, 360, 60_000).unwrap();
    let answer = pool.acquire(0, SessionId(session), ATTEMPT, mode, run);
    assert_eq!(answer.is_some(), pool.number(SessionId(session)).is_none(), "{answer:?}");
    pool.number(SessionId(session))
}

#[test]
fn a_session_gets_the_free_desktop_of_the_lowest_number() {
    let mut pool = pool(3);
    assert_eq!([1, 2, 3].map(|session| acquire(&mut pool, session)), [Some(1), Some(2), Some(3)]);
    assert_eq!(acquire(&mut pool, 4), None, "one more than there may be");
    assert_eq!(acquire(&mut pool, 2), Some(2), "asked again, the same");
    pool.release(0, SessionId(2));
    pool.release(0, SessionId(1));
    assert_eq!([5, 6].map(|session| acquire(&mut pool, session)), [Some(1), Some(2)]);
    let directories: Vec<_> = (1..=3).map(|number| pool.program.paths(number).directory).collect();
    assert!(directories[0].ends_with("desktop") && directories[2].ends_with("desktop-3"), "{directories:?}");
}

/// Moves the pool until it has news. Its clock jumps to what is due; only processes are waited for.
fn news(pool: &mut Pool) -> Vec<Event> {
    let mut news = Vec::new();
    loop {
        let now = pool.deadline().unwrap_or(0);
        pool.dispatch(now, &mut news);
        if !news.is_empty() || pool.hopeless.is_some() {
            return news;
        }
        let mut sources: Vec<_> = pool.sources().map(|(fd, _)| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut sources, PollTimeout::NONE).unwrap();
    }
}

#[test]
fn a_desktop_that_never_comes_up_fails_its_session_alone_and_is_tried_again() {
    let mut pool = pool(2);
    pool.desktops[0].screen.acquire(0, SessionId(1), ATTEMPT, Mode::new(640, 360, 60_000).unwrap());
    for session in [2, 3] {
        assert_eq!(acquire(&mut pool, session), Some(2));
        let news = news(&mut pool);
        let failed = matches!(&news[..], [Event::OutputFailed { session: SessionId(id), reason, .. }]
            if *id == session && reason.contains("desktop 2 does not come up"));
        assert!(failed, "{news:?}");
        assert!(pool.hopeless().is_none());
    }
    pool.desktops[0].own.start_again(0);
    assert!(news(&mut pool).is_empty());
    assert!(pool.hopeless().is_some(), "the first one's end is lumend's");
}

#[test]
fn a_desktop_is_kept_while_an_app_runs_on_it() {
    let mut pool = pool(2);
    assert_eq!(acquire(&mut pool, 1), Some(1));
    assert!(pool.start_app(SessionId(1), RunId(9), 1).is_err(), "there is no such app");
    assert!(pool.start_app(SessionId(8), RunId(9), 0).is_err(), "there is no such session");
    pool.start_app(SessionId(1), RunId(9), 0).unwrap();
    pool.release(0, SessionId(1));
    assert_eq!([2, 3].map(|session| acquire(&mut pool, session)), [Some(2), Some(3)], "as many as there may be");
    assert_eq!(acquire(&mut pool, 4), None);
    assert_eq!(acquire_for(&mut pool, 5, Some(RunId(9))), Some(1), "who comes back");
    // Only one can look at it.
    pool.release(0, SessionId(2));
    assert_eq!(acquire_for(&mut pool, 6, Some(RunId(9))), Some(2));

    let mut news = Vec::new();
    pool.stop_app(RunId(9), &mut news);
    pool.stop_app(RunId(9), &mut news);
    assert!(matches!(news[..], [Event::AppEnded { run: RunId(9), .. }]), "it waited for its desktop: {news:?}");
    pool.release(0, SessionId(5));
    assert_eq!(acquire(&mut pool, 7), Some(1));
}

#[test]
fn an_app_on_a_desktop_that_never_comes_up_has_ended() {
    let mut pool = pool(2);
    assert_eq!([1, 2].map(|session| acquire(&mut pool, session)), [Some(1), Some(2)]);
    pool.start_app(SessionId(2), RunId(9), 0).unwrap();
    let mut all = Vec::new();
    while !all.iter().any(|event| matches!(event, Event::AppEnded { run: RunId(9), .. })) {
        all.extend(news(&mut pool));
    }
    assert!(pool.desktops[1].runs.is_empty());
}

#[test]
fn a_session_whose_desktop_dies_is_told_once_and_gets_it_back() {
    let mut pool = pool(2);
    assert_eq!([1, 2].map(|session| acquire(&mut pool, session)), [Some(1), Some(2)]);
    let mut news = Vec::new();
    pool.desktops[1].lost(0, "crashed", &mut news);
    pool.desktops[1].lost(0, "crashed", &mut news);
    assert!(matches!(news[..], [Event::OutputLost { session: SessionId(2), .. }]), "{news:?}");
    assert_eq!([pool.number(SessionId(1)), pool.number(SessionId(2))], [Some(1), None]);
    assert_eq!(acquire(&mut pool, 2), Some(2));
}
