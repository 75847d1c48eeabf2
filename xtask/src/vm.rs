//! `cargo xtask test-vm`: the tests that need a kernel of their own, on a stock Debian kernel in a virtual machine.
//!
//! Gamepads and touch screens are the kernel's, and a machine that tests Lumen need not offer them: in a container
//! /dev/uinput is missing, and elsewhere test devices would type into somebody's desktop. So the test and the plane it
//! starts are put into an initramfs and run as root in QEMU, by software emulation, which works everywhere.

mod apt;
mod cpio;
mod initramfs;
mod kernel;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xtask::binaries::target;

use self::initramfs::Initramfs;
use self::kernel::Kernel;
use crate::suite::programs;

/// The kernel's modules that the tests need.
const MODULES: &[&str] = &["evdev", "uinput"];
const MEMORY_MIB: &str = "512";
/// Seconds for boot and tests; emulation on a busy machine is slow, and only a test that hangs waits for it.
const LIMIT_S: &str = "240";
/// What the initramfs prints before the exit status of the tests.
const STATUS: &str = "lumen-vm-status=";
const QEMU: &str = "qemu-system-x86_64";

/// Sees to it that the emulator and a kernel are there.
pub fn prepare() -> Result<()> {
    kernel().map(drop)
}

fn kernel() -> Result<Kernel> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the virtual machine is an x86-64 one; run this on such a machine");
    }
    let cache = target().join("vm");
    apt::ensure_tools(&cache)?;
    Kernel::ensure(&cache)
}

/// Boots a kernel and runs lumen-input's tests of real devices in it.
pub fn test() -> Result<()> {
    let cache = target().join("vm");
    let kernel = kernel()?;
    println!("   kernel {}", kernel.version);
    let program = build()?;
    let start = Instant::now();
    let image = cache.join("initramfs");
    pack(&kernel, &program)?.write(&image)?;
    let status = boot(&kernel, &image)?;
    println!("   virtual machine: {} s", start.elapsed().as_secs());
    if status != 0 {
        bail!("the tests in the virtual machine failed with status {status}; their output is above");
    }
    Ok(())
}

/// Builds the test, and with it the program of the plane that it starts; returns the test.
fn build() -> Result<PathBuf> {
    let programs = programs::build(&["--test", "uinput"])?;
    let test = programs.into_iter().find(|program| program.package == "lumen-input" && program.name == "uinput");
    Ok(test.context("cargo names no executable for lumen-input's uinput test")?.path)
}

fn pack(kernel: &Kernel, test: &Path) -> Result<Initramfs> {
    let mut image = Initramfs::new()?;
    image.modules(kernel, MODULES)?;
    image.program(test, test)?;
    // The test knows the plane by the path it was built at.
    let plane = test.parent().and_then(Path::parent).context("a test lies in target/…/deps")?.join("lumen-input");
    image.program(&plane, &plane)?;
    // One test at a time: each of them counts the machine's devices.
    let run = format!("{} --ignored --test-threads=1", test.display());
    image.init(&format!(
        "#!/bin/sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/tmp RUST_BACKTRACE=1\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp\n\
         for module in /modules/*.ko; do insmod $module || echo \"cannot load $module\"; done\n\
         cd /tmp; {run}; echo \"{STATUS}$?\"\n\
         poweroff -f\n"
    ));
    Ok(image)
}

/// Boots and prints what the machine says; returns the tests' exit status.
fn boot(kernel: &Kernel, image: &Path) -> Result<i32> {
    // tsc=reliable, no_timer_check and no watchdog: an emulated machine that waits for its host's CPU must not be
    // taken for a broken one.
    let line = "console=ttyS0 quiet panic=-1 no_timer_check nmi_watchdog=0 tsc=reliable mitigations=off";
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", LIMIT_S, QEMU])
        // la57 off: five-level page tables cost a third of the boot under emulation.
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-M", "q35", "-smp", "2", "-m", MEMORY_MIB])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .args(["-append", line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{QEMU} does not run"))?;
    let console = child.stdout.take().context("the console is piped")?;
    let mut status = None;
    for line in BufReader::new(console).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        match line.find(STATUS) {
            Some(at) => status = line[at + STATUS.len()..].trim().parse().ok(),
            None => println!("   │ {line}"),
        }
    }
    let ended = child.wait()?;
    status.with_context(|| {
        format!("the virtual machine ended without a result ({}); its output is above", xtask::process::describe(ended))
    })
}
