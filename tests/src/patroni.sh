# Three members of Patroni and their etcd, on ports of this machine. ETCD is etcd's port; PORTS and APIS
# are those of the members' servers and of their REST interfaces.
BIN=$(echo /usr/lib/postgresql/*/bin)
etcd --data-dir=/tmp/etcd --listen-client-urls="http://127.0.0.1:$ETCD" \
    --advertise-client-urls="http://127.0.0.1:$ETCD" --listen-peer-urls=http://127.0.0.1:0 \
    --log-level=warn 2>&1 &
number=0
for port in $PORTS; do
    number=$((number + 1))
    member=/tmp/member-$number
    api=$(echo "$APIS" | cut -d' ' -f$number)
    cat > "$member.yml" <<CONFIG
scope: shop
name: member-$number
restapi: { listen: "127.0.0.1:$api", connect_address: "127.0.0.1:$api" }
etcd3: { host: "127.0.0.1:$ETCD" }
bootstrap:
  # As quick as Patroni lets it be, and without losing what was acknowledged.
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    synchronous_mode: true
    postgresql: { use_pg_rewind: true, parameters: { wal_log_hints: "on" } }
  initdb: [ { encoding: UTF8 } ]
postgresql:
  listen: "127.0.0.1:$port"
  connect_address: "127.0.0.1:$port"
  data_dir: $member
  bin_dir: $BIN
  pgpass: $member.pass
  authentication:
    superuser: { username: postgres, password: postgres }
    replication: { username: replicator, password: replicator }
  pg_hba:
    - "host all all 127.0.0.1/32 scram-sha-256"
    - "host replication all 127.0.0.1/32 scram-sha-256"
  # Without JIT, whose library is not in the image.
  parameters: { unix_socket_directories: /tmp, fsync: "off", jit: "off" }
CONFIG
    cat > "$member.sh" <<RUN
echo \$\$ > $member.pid
exec patroni $member.yml
RUN
    sh "$member.sh" 2>&1 &
done
wait
