# Runs one MySQL server of a test cluster, as user mysql, in the official image and in ours
# alike. Restartable: data is made on the first start and kept for every later one.
#
# Environment: NAME (this server's name), ID (its number, 1 and up), PRIMARY (host to follow;
# empty on the primary).
set -eu
data=/var/lib/mysql/sealane
made=$data.made
empty=$data.empty
config=$data.cnf
sql=$data.sql

# Left by a test that wants this server's data anew from the primary's.
if [ -e "$data.rebuild" ]; then
    rm -rf "$data" "$data.promoted" "$data.rebuild" "$data.small" "$data.options"
fi

# Left by a test in which this server threw its log away: others begin with it.
if [ -d "$data.logs" ]; then
    for log in "$data.logs"/*; do
        [ -e "$data/${log##*/}" ] || mv "$log" "$data"
    done
    rm -rf "$data.logs"
    (cd "$data" && ls ./binlog.?????? > binlog.index)
fi

# Left by a test that wants a disk to fill up: what is received goes to a small one, until the
# next start.
relay=relay
if [ -e "$data.small" ]; then
    rm "$data.small"
    relay=/var/tmp/relay
fi

# Not the image's configuration, which differs between images.
cat > "$config" <<-CONF
	[mysqld]
	# Loose: not every build has these two.
	loose_mysqlx = OFF
	loose_innodb_numa_interleave = OFF
	socket = /tmp/sealane.sock
	pid_file = /tmp/sealane.pid
	secure_file_priv = NULL
	skip_name_resolve = ON
	# No TLS: it costs a client built without optimisation 30 ms for every connection.
	auto_generate_certs = OFF
	max_connections = 200
	innodb_buffer_pool_size = 64M
	# Containers are thrown away: what a kill loses here, the kernel still has.
	sync_binlog = 0
	innodb_flush_log_at_trx_commit = 2
	innodb_doublewrite = OFF
	server_id = $ID
	report_host = $NAME
	gtid_mode = ON
	enforce_gtid_consistency = ON
	log_bin = binlog
	log_replica_updates = ON
	relay_log = $relay
	relay_log_recovery = ON
	# Off until a test wants it.
	plugin_load_add = semisync_source.so
	plugin_load_add = semisync_replica.so
	# A replica without data replays the primary's binary log from its beginning.
	binlog_expire_logs_seconds = 0
	# A follower notices a lost primary within a test's patience.
	replica_net_timeout = 3
	# The script below starts it, with every start of the server.
	skip_replica_start = ON
CONF
# Left by a test that wants the server to start with other settings.
if [ -e "$data.options" ]; then
    cat "$data.options" >> "$config"
fi

if [ ! -d "$empty" ]; then
    rm -rf "$made"
    # The same on every server and not in the binary log, so that each can begin by itself.
    cat > "$sql" <<-SQL
	SET sql_log_bin = 0;
	CREATE DATABASE sealane;
	CREATE USER sealane@'%' IDENTIFIED BY 'sealane';
	GRANT ALL ON sealane.* TO sealane@'%';
	CREATE USER sealane_admin@'%' IDENTIFIED BY 'sealane_admin';
	GRANT ALL ON *.* TO sealane_admin@'%' WITH GRANT OPTION;
	CREATE USER sealane_replication@'%' IDENTIFIED BY 'sealane_replication';
	GRANT REPLICATION SLAVE ON *.* TO sealane_replication@'%';
	SQL
    mysqld --defaults-file="$config" --datadir="$made" --init-file="$sql" --initialize-insecure
    # A server has the same identity for as long as it has its data.
    rm -f "$made/auto.cnf"
    mv "$made" "$empty"
fi
if [ ! -d "$data" ]; then
    rm -rf "$made"
    cp -a "$empty" "$made"
    mv "$made" "$data"
fi

set -- --defaults-file="$config" --datadir="$data"
# A promoted replica stays what it became, also when it starts again.
if [ -n "$PRIMARY" ] && [ ! -e "$data.promoted" ]; then
    # A statement must not span lines.
    # The connection is not encrypted, hence the public key.
    cat > "$sql" <<-SQL
	CHANGE REPLICATION SOURCE TO SOURCE_HOST='$PRIMARY', SOURCE_USER='sealane_replication', SOURCE_PASSWORD='sealane_replication', SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1, SOURCE_DELAY=0, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0;
	START REPLICA;
	SQL
    set -- "$@" --read-only=ON --super-read-only=ON --init-file="$sql"
fi

# Left by a test that wants this server's clock to be wrong, by so many seconds as stand in
# the file; it is read again every second. Only the time of day is wrong: durations are not.
if [ -e "$data.clock" ]; then
    LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib64/faketime/libfaketimeMT.so.1 2> /dev/null || true)
    export LD_PRELOAD FAKETIME_TIMESTAMP_FILE="$data.clock" FAKETIME_CACHE_DURATION=1
    export FAKETIME_DONT_FAKE_MONOTONIC=1
fi

# As a service manager would: a server that crashed begins anew, one that was told to stop,
# or cannot start, does not.
trap 'kill -TERM "$server"' TERM
status=137
while [ "$status" -eq 137 ]; do
    # Left by a server that was killed; it keeps the next one out if any process has its number.
    rm -f /tmp/sealane.sock.lock
    mysqld "$@" &
    server=$!
    status=0
    wait "$server" || status=$?
done
# The trap ends a wait before the server has ended.
wait "$server" || exit "$status"
