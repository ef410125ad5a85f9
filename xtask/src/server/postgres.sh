# Runs one PostgreSQL server of a test cluster, as user postgres, in the official image and
# in ours alike. Restartable: data is made on the first start and kept for every later one.
#
# Environment: BIN (directory of the server's programs), NAME (this server's name),
# PRIMARY (host to copy and follow; empty on the primary), REPLICAS (names; one slot each).
set -eu
data=/var/lib/postgresql/sealane
made=$data.made
credentials="user=sealane password=sealane"
password_hash='SCRAM-SHA-256$1:c2VhbGFuZS1zZWFsYW5lIQ==$HyXUjdmvqPcechGtUY4izJ5LYxWwkS8O9Zo0jZfElgM=:P9TMZpw3YQ4VjABfXTVIlBDxQo/CsZQfUwxOxbzuA8M='

# Left by a test that wants this server copied afresh from the primary.
if [ -e "$data.rebuild" ]; then
    rm -rf "$data" "$data.rebuild" "$data.small"
fi
# Its log was on the small disk, which is made anew with every start of the container.
if [ -L "$data/pg_wal" ] && [ ! -e "$data/pg_wal/" ]; then
    rm -rf "$data"
fi

make_primary() {
    echo sealane > "$made.password"
    "$BIN/initdb" --pgdata="$made" --username=sealane --pwfile="$made.password" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
        --no-sync --no-instructions
    cat >> "$made/pg_hba.conf" <<-'HBA'
	host all         all all scram-sha-256
	host replication all all scram-sha-256
	HBA
    cat >> "$made/postgresql.conf" <<-'CONF'
	listen_addresses = '*'
	unix_socket_directories = '/tmp'
	max_connections = 200
	shared_preload_libraries = 'pg_stat_statements'
	jit = off
	# Containers are thrown away: what a kill loses here, the kernel still has.
	fsync = off
	# For logical subscribers.
	wal_level = logical
	hot_standby = on
	max_wal_senders = 10
	max_replication_slots = 10
	wal_keep_size = '64MB'
	# A follower notices a lost primary, and finds it again, within a test's patience.
	wal_receiver_status_interval = '1s'
	wal_receiver_timeout = '5s'
	wal_retrieve_retry_interval = '100ms'
	CONF
    # Single-user mode: all is in place before the first client can connect.
    single postgres "CREATE DATABASE sealane"
    single sealane "CREATE EXTENSION pg_stat_statements"
    # The password `sealane` hashed in one round: the default of 4096 costs a client built
    # without optimisation 0.1 s of CPU for every connection. Given as a hash (RFC 5803),
    # because PostgreSQL before 16 makes none with fewer rounds, though it takes them.
    single postgres "ALTER ROLE sealane PASSWORD '$password_hash'"
    for replica in $REPLICAS; do
        single postgres "SELECT pg_create_physical_replication_slot('$(slot "$replica")')"
    done
}

make_replica() {
    until "$BIN/pg_basebackup" --dbname="host=$PRIMARY $credentials" --pgdata="$made" \
        --wal-method=stream --slot="$(slot "$NAME")" --checkpoint=fast --no-sync; do
        echo "the primary cannot be copied yet"
        rm -rf "$made"
        sleep 0.2
    done
    # In postgresql.conf and not, as pg_basebackup -R does it, in postgresql.auto.conf: so
    # ALTER SYSTEM SET cuts replication, and ALTER SYSTEM RESET restores it.
    cat >> "$made/postgresql.conf" <<-CONF
	primary_conninfo = 'host=$PRIMARY $credentials'
	primary_slot_name = '$(slot "$NAME")'
	CONF
    touch "$made/standby.signal"
}

slot() {
    echo "$1" | tr - _
}

# An error goes to the container's log, but not into the exit status.
single() {
    echo "$2" | "$BIN/postgres" --single -D "$made" "$1" > /dev/null
}

if [ ! -d "$data" ]; then
    rm -rf "$made"
    if [ -z "$PRIMARY" ]; then make_primary; else make_replica; fi
    chmod 700 "$made"
    mv "$made" "$data"
fi

# Left by a test that wants a disk to fill up: the log moves to a small one.
if [ -e "$data.small" ]; then
    rm "$data.small"
    cp -a "$data/pg_wal" /var/tmp
    rm -r "$data/pg_wal"
    ln -s /var/tmp/pg_wal "$data/pg_wal"
fi

# Left by a test that wants this server's clock to be wrong, by so many seconds as stand in
# the file; it is read again every second. Only the time of day is wrong: durations are not.
if [ -e "$data.clock" ]; then
    LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1 /usr/lib64/faketime/libfaketime.so.1 2> /dev/null || true)
    export LD_PRELOAD FAKETIME_TIMESTAMP_FILE="$data.clock" FAKETIME_CACHE_DURATION=1
    export FAKETIME_DONT_FAKE_MONOTONIC=1
fi

# The walreceiver reports cluster_name to the primary as its application_name.
exec "$BIN/postgres" -D "$data" -c cluster_name="$NAME"
