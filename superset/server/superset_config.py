"""Superset's settings, read from the environment and from mounted Secrets. start.py names this file in SUPERSET_CONFIG_PATH.

STOCKFEED_SUPERSET_SECRETS    folder with the file secretKey
STOCKFEED_SUPERSET_DATABASE   folder with host, port, dbname, username, password of the metadata database; perhaps sslmode, ca.crt
STOCKFEED_SUPERSET_CACHE      how many seconds an answer may be served again
STOCKFEED_SUPERSET_REDIS      file with the URL of a Redis for the caches; without it they lie in SUPERSET_HOME
STOCKFEED_SUPERSET_PROXY      "true" behind a proxy, whose headers say how and from where a visitor came
"""

import copy
import os
from pathlib import Path

import psycopg2
from flask import Blueprint, Flask, Response, request
from flask.sessions import SecureCookieSessionInterface
from sqlalchemy.engine import URL
from superset.config import TALISMAN_CONFIG as UPSTREAM_TALISMAN_CONFIG


def secret(folder: str, name: str, default: str | None = None) -> str:
    """What a file of a mounted Secret holds."""
    file = Path(folder) / name
    if default is not None and not file.exists():
        return default
    return file.read_text(encoding="utf-8").rstrip("\n")


def database() -> dict[str, str]:
    """How to connect with the metadata database, as libpq names it. CloudNativePG's Secrets have these keys."""
    folder = os.environ["STOCKFEED_SUPERSET_DATABASE"]
    parameters = {
        "host": secret(folder, "host"),
        "port": secret(folder, "port", "5432"),
        "dbname": secret(folder, "dbname"),
        "user": secret(folder, "username"),
        "password": secret(folder, "password"),
        "sslmode": secret(folder, "sslmode", "prefer"),
    }
    authority = Path(folder) / "ca.crt"
    if authority.exists():
        parameters["sslrootcert"] = str(authority)
    return parameters


STOCKFEED_DATABASE = _database = database()
STOCKFEED_SECRET = secret

SECRET_KEY = secret(os.environ["STOCKFEED_SUPERSET_SECRETS"], "secretKey")
SQLALCHEMY_DATABASE_URI = URL.create(
    "postgresql+psycopg2",
    username=_database["user"],
    password=_database["password"],
    host=_database["host"],
    port=int(_database["port"]),
    database=_database["dbname"],
    query={name: _database[name] for name in ("sslmode", "sslrootcert") if name in _database},
).render_as_string(hide_password=False)
# A database that was started again is no error for the next visitor.
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True, "pool_recycle": 1800}
# Migrations would put alembic's own settings of logs in place of ours.
ALEMBIC_SKIP_LOG_CONFIG = True

# Templates in SQL stay off: they are a way to inject.
FEATURE_FLAGS = {"DASHBOARD_RBAC": True, "RLS_IN_SQLLAB": True, "ENABLE_TEMPLATE_PROCESSING": False}

UPLOAD_FOLDER = os.path.join(os.environ["SUPERSET_HOME"], "uploads") + os.sep

# What a live dashboard shows may be this old. State of filters lies in the metadata database, where a restart leaves it.
_seconds = int(os.environ.get("STOCKFEED_SUPERSET_CACHE", "30"))
_redis = os.environ.get("STOCKFEED_SUPERSET_REDIS")
_cache = (
    {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": Path(_redis).read_text(encoding="utf-8").strip()}
    if _redis
    # As many answers as fit in the volume beside the rest; the oldest go first.
    else {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": os.path.join(os.environ["SUPERSET_HOME"], "cache"), "CACHE_THRESHOLD": 1000}
)
CACHE_CONFIG = {**_cache, "CACHE_DEFAULT_TIMEOUT": 300, "CACHE_KEY_PREFIX": "superset_"}
DATA_CACHE_CONFIG = {**_cache, "CACHE_DEFAULT_TIMEOUT": _seconds, "CACHE_KEY_PREFIX": "superset_data_"}

# "Last week" ends now. As it comes it ends at midnight, and a live dashboard would not show today.
DEFAULT_RELATIVE_START_TIME = "now"
DEFAULT_RELATIVE_END_TIME = "now"

# No page asks the host that counts Superset's installations.
TALISMAN_CONFIG = copy.deepcopy(UPSTREAM_TALISMAN_CONFIG)
_policy = TALISMAN_CONFIG["content_security_policy"]
_policy["img-src"] = [source for source in _policy["img-src"] if "scarf.sh" not in source]

ENABLE_PROXY_FIX = os.environ.get("STOCKFEED_SUPERSET_PROXY") == "true"


class _Sessions(SecureCookieSessionInterface):
    """A session that began over https stays there; the operator and `kubectl port-forward` come over http."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def FLASK_APP_MUTATOR(app: Flask) -> None:  # noqa: N802
    app.session_interface = _Sessions()


_health = Blueprint("stockfeed_health", __name__, url_prefix="/stockfeed/health")


def metadata() -> str:
    """Whether the metadata is there: "there", "lost", or why the database cannot say."""
    try:
        # Not from the pool: that may be exhausted by what is slow, and this must answer all the same.
        connection = psycopg2.connect(**database(), connect_timeout=3, options="-c statement_timeout=3000")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('stockfeed_start') IS NOT NULL")
                return "there" if cursor.fetchone()[0] else "lost"
        finally:
            connection.close()
    except psycopg2.Error as error:
        return f"the metadata database does not answer: {error}".strip()


@_health.route("/live")
def live() -> Response:
    """Fails when only another start helps: the database answers, and what the start put there is gone."""
    if metadata() == "lost":
        return Response("the metadata is gone; another start makes it anew\n", status=503, mimetype="text/plain")
    return Response("alive\n", mimetype="text/plain")


@_health.route("/ready")
def ready() -> Response:
    """Fails while nothing could be shown."""
    state = metadata()
    # Why is for the log of whoever asks from inside; it names hosts and roles, never a password.
    return Response(f"{state}\n", status=200 if state == "there" else 503, mimetype="text/plain")


BLUEPRINTS = [_health]
