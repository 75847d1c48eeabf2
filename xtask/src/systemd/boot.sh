# Makes this machine's own / the root of a container and starts systemd in it. Nothing that happens there reaches what is
# below: all of it goes into memory.
#
# Run in namespaces of its own (mount, pid, uts, ipc, net, cgroup) and in control groups of its own:
#     boot.sh DIRECTORY PROGRAMS v2|hybrid
set -eu
directory=$1 programs=$2 groups=$3

mount -t tmpfs -o mode=755 lumen "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
mount -t overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" lumen "$directory/root"
root=$directory/root

# Of the machine's own services none starts: only what is asked for.
rm -rf "$root/etc/systemd/system" "$root/etc/systemd/user" "$root/etc/fstab" "$root/etc/lumen" "$root/usr/local/lib/lumen" \
    "$root/usr/local/bin/lumend" "$root/var/lib/lumen" "$root/var/log/journal"
rm -rf "$root"/usr/lib/systemd/system-generators "$root"/usr/lib/systemd/user-generators
rm -rf "$root"/usr/lib/systemd/system/*.target.wants "$root"/usr/lib/systemd/user/*.target.wants
mkdir -p "$root/etc/systemd/system/sysinit.target.wants" "$root/etc/systemd/user"
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    ln -s "/usr/lib/systemd/system/$unit" "$root/etc/systemd/system/sysinit.target.wants/$unit"
done
# Without it systemd takes this for the first boot ever and enables what it finds.
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"

# What is shared with the machine can be looked at and not changed.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"

mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue"
mount -t tmpfs shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 run "$root/run"
# Made by the machine's first service that has a sandbox. A user's manager needs it and may not make it; the same goes for
# /dev/mqueue, above.
mkdir -p "$root/run/systemd/unit-root"
mount -t tmpfs tmp "$root/tmp"

case $groups in
v2)
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    ;;
hybrid)
    # Controllers that the machine has in the old hierarchies can only be used there; the rules about addresses need the
    # new one.
    mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    for controller in memory pids devices; do
        mkdir "$root/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "$root/sys/fs/cgroup/$controller"
    done
    ;;
esac

mkdir -p "$root/mnt/programs"
mount --bind "$programs" "$root/mnt/programs"
mount -o remount,bind,ro "$root/mnt/programs"
ip link set lo up

cd "$root"
mkdir old
pivot_root . old
umount -l old
rmdir old
# Systemd leaves alone what a container's manager is in charge of.
exec env -i container=lumen PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot / /lib/systemd/systemd --system --unit=basic.target
