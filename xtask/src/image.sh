# Builds a PostgreSQL server image from Debian packages, for machines that reach a Debian
# mirror but no container registry. Arguments: an empty directory, Debian suite, PostgreSQL
# version, image tag. Run by xtask as root in a mount namespace of its own, so that what
# debootstrap mounts goes away with it, however it ends.
set -euo pipefail
root=$1/root suite=$2 version=$3 tag=$4

echo "downloading Debian $suite and postgresql-$version"
debootstrap --foreign --variant=minbase --include="postgresql-$version" "$suite" "$root"

# Between the two stages: packages are unpacked and configured only in the second.
mkdir -p "$root/etc/postgresql-common/createcluster.d" "$root/usr/sbin"
echo 'create_main_cluster = false' > "$root/etc/postgresql-common/createcluster.d/no-cluster.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

echo "installing the packages"
chroot "$root" /debootstrap/debootstrap --second-stage

# The compiler behind JIT is a third of the image, and the servers run with jit=off.
rm -rf "$root"/usr/lib/*/libLLVM* "$root"/usr/lib/*/libz3* "$root/usr/lib/postgresql/$version/lib/bitcode" \
    "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/usr/share/info/*

echo "importing the image"
tar --create --directory "$root" --numeric-owner . |
    docker import --change 'ENV LANG=C.UTF-8' - "$tag"
