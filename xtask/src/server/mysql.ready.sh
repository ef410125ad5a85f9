# Succeeds once the server does its part: a primary answers, and on a replica the thread that
# receives and the one that applies both run.
answer() {
    mysql --no-defaults --socket=/tmp/sealane.sock --user=root --vertical --execute="$1"
}
if [ -z "$PRIMARY" ]; then
    answer 'SELECT 1'
else
    [ "$(answer 'SHOW REPLICA STATUS' | grep -c 'Replica_\(IO\|SQL\)_Running: Yes$')" = 2 ]
fi
