# Runs one MariaDB server of a test cluster, as user mysql, in the official image and in ours
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
    rm -rf "$data" "$data.promoted" "$data.rebuild" "$data.small" "$data.options" "$data.galera"
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
# What it knows of files in another place would keep it from beginning anew; GTIDs say all it
# needs.
rm -f "$data/relay-log.info" "$data/master.info"

# Not the image's configuration, which differs between images.
cat > "$config" <<-CONF
	[mariadbd]
	socket = /tmp/sealane.sock
	pid_file = /tmp/sealane.pid
	bind_address = *
	skip_name_resolve = ON
	# TLS costs a client built without optimisation 30 ms for every connection.
	ssl = OFF
	max_connections = 200
	innodb_buffer_pool_size = 64M
	# For suites that count the statements which reached a server; off by default here.
	performance_schema = ON
	# Containers are thrown away: what a kill loses here, the kernel still has.
	sync_binlog = 0
	innodb_flush_log_at_trx_commit = 2
	innodb_doublewrite = OFF
	server_id = $ID
	report_host = $NAME
	gtid_strict_mode = ON
	log_bin = binlog
	log_slave_updates = ON
	relay_log = $relay
	# A replica without data replays the primary's binary log from its beginning.
	expire_logs_days = 0
	# A follower notices a lost primary within a test's patience.
	slave_net_timeout = 3
	# The script below starts it, with every start of the server.
	skip_slave_start = ON
CONF
# Left by a test that wants the server to start with other settings.
if [ -e "$data.options" ]; then
    cat "$data.options" >> "$config"
fi

# Left by a test that wants a member of a Galera cluster: the name of another member, or nothing. Each
# member's data are a copy of the first one's, so a new one only has to be sent what came since. The
# script with which a donor would send all its data is in another package; this one sends nothing.
if [ -e "$data.galera" ]; then
    cat >> "$config" <<-CONF
	wsrep_on = ON
	wsrep_provider = /usr/lib/galera/libgalera_smm.so
	wsrep_cluster_address = gcomm://$(cat "$data.galera")
	wsrep_node_address = $NAME
	wsrep_sst_method = nothing
	innodb_autoinc_lock_mode = 2
	binlog_format = ROW
	CONF
    cat > /tmp/wsrep_sst_nothing <<-'PERL'
	#!/usr/bin/perl
	use IO::Socket::INET;
	my $given = join ' ', @ARGV;
	my ($host) = $given =~ /--address \W*([\w.-]+)/;
	$| = 1;
	if ($given =~ /--role \W*joiner/) {
	    my $listener = IO::Socket::INET->new(Listen => 1, LocalPort => 4444, ReuseAddr => 1) or die;
	    print "ready $host:4444\n";
	    print scalar readline $listener->accept;
	} else {
	    my ($number) = $given =~ /--gtid \W*([\w:-]+)/;
	    my $joiner = IO::Socket::INET->new("$host:4444") or die;
	    print $joiner "$number\n";
	    print "done $number\n";
	}
	PERL
    chmod +x /tmp/wsrep_sst_nothing
    export PATH="$PATH:/tmp"
fi

if [ ! -d "$empty" ]; then
    rm -rf "$made"
    mariadb-install-db --no-defaults --datadir="$made" --skip-test-db \
        --auth-root-authentication-method=normal > /dev/null
    # The same on every server and not in the binary log, so that each can begin by itself.
    mariadbd --no-defaults --datadir="$made" --bootstrap <<-SQL
	FLUSH PRIVILEGES;
	CREATE DATABASE sealane;
	CREATE USER sealane@'%' IDENTIFIED BY 'sealane';
	GRANT ALL ON sealane.* TO sealane@'%';
	CREATE USER sealane_admin@'%' IDENTIFIED BY 'sealane_admin';
	GRANT ALL ON *.* TO sealane_admin@'%' WITH GRANT OPTION;
	CREATE USER sealane_replication@'%' IDENTIFIED BY 'sealane_replication';
	GRANT REPLICATION SLAVE ON *.* TO sealane_replication@'%';
	SQL
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
    # A statement must not span lines. Without TLS: a certificate made by a clock that is ahead
    # is not valid yet.
    cat > "$sql" <<-SQL
	CHANGE MASTER TO MASTER_HOST='$PRIMARY', MASTER_USER='sealane_replication', MASTER_PASSWORD='sealane_replication', MASTER_USE_GTID=slave_pos, MASTER_DELAY=0, MASTER_SSL=0, MASTER_HEARTBEAT_PERIOD=1, MASTER_CONNECT_RETRY=1;
	START REPLICA;
	SQL
    set -- "$@" --read-only=ON --init-file="$sql"
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
    mariadbd "$@" &
    server=$!
    status=0
    wait "$server" || status=$?
done
# The trap ends a wait before the server has ended.
wait "$server" || exit "$status"
