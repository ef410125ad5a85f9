# Succeeds once the server does its part: a primary answers, and on a replica the thread that
# receives and the one that applies both run.
answer() {
    mariadb --no-defaults --skip-ssl --socket=/tmp/sealane.sock --user=root --vertical --execute="$1"
}
if [ -z "$PRIMARY" ]; then
    answer 'SELECT 1'
else
    [ "$(answer 'SHOW REPLICA STATUS' | grep -c 'Slave_\(IO\|SQL\)_Running: Yes$')" = 2 ]
fi
