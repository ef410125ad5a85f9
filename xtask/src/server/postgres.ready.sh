# Succeeds once the server does its part: a primary answers, a replica streams.
answer() {
    psql --host=/tmp --username=sealane --no-align --tuples-only --dbname=sealane --command="$1"
}
if [ -z "$PRIMARY" ]; then
    [ "$(answer "SELECT 1")" = 1 ]
else
    [ "$(answer "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'")" = 1 ]
fi
