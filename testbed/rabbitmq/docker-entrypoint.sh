#!/bin/bash
# Starts RabbitMQ as the official image does, so that one chart runs both: RABBITMQ_ERLANG_COOKIE becomes the cookie file,
# and the server reads every other RABBITMQ_ variable itself.
set -euo pipefail

cookie=$HOME/.erlang.cookie
if [ "${1:-}" = rabbitmq-server ]; then
  if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ]; then
    rm -f "$cookie"
    (umask 077 && printf '%s' "$RABBITMQ_ERLANG_COOKIE" > "$cookie")
  fi
  # A volume's group rights (fsGroup) are more than Erlang bears on its cookie.
  [ ! -e "$cookie" ] || chmod 0600 "$cookie" 2> /dev/null || true
fi
exec "$@"
