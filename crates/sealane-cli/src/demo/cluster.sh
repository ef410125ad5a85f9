# Runs one PostgreSQL server of the demonstration, as the user postgres, in the official image and
# in any Debian that has the package. PRIMARY is the host to follow; it is empty on the primary.
set -eu
bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | tail -1)")
data=/var/lib/postgresql/sealane
login="user=sealane password=sealane"
hash='SCRAM-SHA-256$1:c2VhbGFuZS1zZWFsYW5lIQ==$HyXUjdmvqPcechGtUY4izJ5LYxWwkS8O9Zo0jZfElgM=:P9TMZpw3YQ4VjABfXTVIlBDxQo/CsZQfUwxOxbzuA8M='

if [ ! -d "$data" ] && [ -z "$PRIMARY" ]; then
    echo sealane > /tmp/password
    "$bin/initdb" --pgdata="$data.new" --username=sealane --pwfile=/tmp/password \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --no-sync --no-instructions
    # The word `all` does not contain replication.
    echo "host all all all scram-sha-256" >> "$data.new/pg_hba.conf"
    echo "host replication all all scram-sha-256" >> "$data.new/pg_hba.conf"
    echo "CREATE DATABASE sealane" | "$bin/postgres" --single -D "$data.new" postgres > /dev/null
    # The password hashed in one round: the default of 4096 costs every connection time.
    echo "ALTER ROLE sealane PASSWORD '$hash'" | "$bin/postgres" --single -D "$data.new" postgres > /dev/null
    mv "$data.new" "$data"
fi
if [ ! -d "$data" ]; then
    until "$bin/pg_basebackup" --dbname="host=$PRIMARY $login" --pgdata="$data.new" \
        --wal-method=stream --checkpoint=fast --no-sync; do
        rm -rf "$data.new"
        sleep 0.2
    done
    touch "$data.new/standby.signal"
    mv "$data.new" "$data"
fi
chmod 700 "$data"
# The data is thrown away, so that nothing waits for a disk.
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off \
    -c jit=off -c wal_keep_size=256MB -c wal_retrieve_retry_interval=100ms \
    -c wal_receiver_status_interval=1s -c primary_conninfo="host=$PRIMARY $login"
