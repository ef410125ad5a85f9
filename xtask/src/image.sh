# Builds the image of a database server from Debian packages, for machines that reach a
# Debian mirror but no container registry. Arguments: an empty directory, Debian suite, image
# tag, user that runs the server, his home, packages. Run by xtask as root in a mount
# namespace of its own, so that what debootstrap mounts goes away with it, however it ends.
set -euo pipefail
root=$1/root suite=$2 tag=$3 user=$4 home=$5
shift 5
packages=$(IFS=,; echo "$*")

echo "downloading Debian $suite and $*"
debootstrap --foreign --variant=minbase --include="$packages" "$suite" "$root"

# Between the two stages: packages are unpacked and configured only in the second, and none
# of them is to make or start a server by itself.
mkdir -p "$root/etc/postgresql-common/createcluster.d" "$root/usr/sbin"
echo 'create_main_cluster = false' > "$root/etc/postgresql-common/createcluster.d/no-cluster.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

echo "installing the packages"
chroot "$root" /debootstrap/debootstrap --second-stage

# The "core" packages of MySQL and MariaDB leave the user to their bigger sisters.
chroot "$root" id "$user" > /dev/null 2>&1 ||
    chroot "$root" useradd --system --home-dir "$home" --shell /bin/sh "$user"
mkdir -p "$root$home"
chroot "$root" chown "$user" "$home"

# The compiler behind PostgreSQL's JIT is a third of the image, and the servers run with jit=off.
rm -rf "$root"/usr/lib/*/libLLVM* "$root"/usr/lib/*/libz3* "$root"/usr/lib/postgresql/*/lib/bitcode \
    "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/usr/share/info/*

echo "importing the image"
tar --create --directory "$root" --numeric-owner . |
    docker import --change 'ENV LANG=C.UTF-8' - "$tag"
