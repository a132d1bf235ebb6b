"""Starts Superset: brings its metadata to what it has to be, then serves. Safe to run at any time, by several at once.

STOCKFEED_SUPERSET_ACCOUNTS   YAML: `access`, a list of {role, sqlLab}; `users`, a list of {username, firstName, lastName,
                              email, roles, passwordFile}
STOCKFEED_SUPERSET_BIND       address and port
STOCKFEED_SUPERSET_WORKERS    processes; each has eight threads

See superset_config.py for the others. What was done is kept in a table of the metadata database, `stockfeed_start`, so that
a start with nothing to do is quick, and a database that was lost is filled again. The process that prepares is the
one that serves: Superset takes ten seconds to load, once.
"""

import hashlib
import hmac
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
os.environ.setdefault("SUPERSET_CONFIG_PATH", str(FOLDER / "superset_config.py"))
os.environ.setdefault("SUPERSET_HOME", "/tmp/superset")

import psycopg2  # noqa: E402
import yaml  # noqa: E402

log = logging.getLogger("stockfeed.start")

# Only one of several starts changes the metadata; the number is ours alone within that database.
LOCK = 0x57F00D

# To look at dashboards that name the role; no permission on data, so that it holds in every installation.
VIEWER = {
    ("can_read", "Dashboard"),
    ("can_read", "Chart"),
    ("can_read", "Dataset"),
    ("can_read", "CurrentUserRestApi"),
    # The token against forged requests.
    ("can_read", "SecurityRestApi"),
    ("can_read", "DashboardFilterStateRestApi"),
    ("can_write", "DashboardFilterStateRestApi"),
    ("can_read", "DashboardPermalinkRestApi"),
    ("can_write", "DashboardPermalinkRestApi"),
    ("can_read", "Theme"),
    ("can_dashboard", "Superset"),
    ("can_log", "Superset"),
    ("can_time_range", "Api"),
    ("can_get", "MenuApi"),
    ("can_recent_activity", "Log"),
    ("menu_access", "Dashboards"),
    ("menu_access", "Home"),
}

# To ask questions of one's own, of the data that the operator gives the role: SQL Lab's permissions come beside these.
ANALYST = {
    ("can_explore", "Superset"),
    ("can_explore_json", "Superset"),
    ("can_slice", "Superset"),
    ("can_csv", "Superset"),
    ("can_read", "Explore"),
    ("can_read", "ExploreFormDataRestApi"),
    ("can_write", "ExploreFormDataRestApi"),
    ("can_read", "ExplorePermalinkRestApi"),
    ("can_write", "ExplorePermalinkRestApi"),
    ("can_query", "Api"),
    ("can_query_form_data", "Api"),
    ("can_write", "Chart"),
    ("can_get_drill_info", "Dataset"),
    ("can_drill", "Dashboard"),
    ("can_view_query", "Dashboard"),
    ("can_view_chart_as_table", "Dashboard"),
    ("can_get", "Datasource"),
    ("can_samples", "Datasource"),
    ("can_get_column_values", "Datasource"),
    ("can_external_metadata", "Datasource"),
    ("can_external_metadata_by_name", "Datasource"),
    ("can_read", "Tag"),
    ("menu_access", "Charts"),
}

# Permissions on data; the operator gives them, and they stay as they are here.
DATA = {"all_datasource_access", "all_database_access", "database_access", "schema_access", "catalog_access", "datasource_access"}


def wait_for_database(parameters):
    """Connects, and says each ten seconds for what it waits."""
    said = 0.0
    while True:
        try:
            connection = psycopg2.connect(**parameters, connect_timeout=5)
            connection.autocommit = True
            return connection
        except psycopg2.OperationalError as error:
            if time.monotonic() - said > 10:
                log.info("waiting for the metadata database: %s", str(error).strip())
                said = time.monotonic()
            time.sleep(1)


class Done:
    """What earlier starts did: a table of names and values."""

    def __init__(self, connection):
        self.cursor = connection.cursor()

    def lock(self):
        log.info("waiting for other starts")
        self.cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))

    def read(self):
        self.cursor.execute("SELECT to_regclass('stockfeed_start') IS NOT NULL AND to_regclass('alembic_version') IS NOT NULL")
        if not self.cursor.fetchone()[0]:
            return {}
        self.cursor.execute("SELECT name, value FROM stockfeed_start")
        return dict(self.cursor.fetchall())

    def begin(self):
        self.cursor.execute("CREATE TABLE IF NOT EXISTS stockfeed_start (name text PRIMARY KEY, value text NOT NULL)")

    def write(self, name, value):
        self.cursor.execute(
            "INSERT INTO stockfeed_start VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )

    def forget(self, name):
        self.cursor.execute("DELETE FROM stockfeed_start WHERE name = %s", (name,))


def prepare(app, connection):
    """Does what is not done yet."""
    from superset.config import SECRET_KEY, VERSION_STRING

    secrets = os.environ["STOCKFEED_SUPERSET_SECRETS"]
    read = app.config["STOCKFEED_SECRET"]
    accounts = yaml.safe_load(Path(os.environ["STOCKFEED_SUPERSET_ACCOUNTS"]).read_text(encoding="utf-8")) or {}
    access = accounts.get("access") or []
    users = [
        account(read(secrets, "adminUsername"), read(secrets, "adminPassword"), ["Admin"]),
        account(read(secrets, "operatorUsername"), read(secrets, "operatorPassword"), ["Admin"]),
    ]
    for user in accounts.get("users") or []:
        password = Path(user["passwordFile"]).read_text(encoding="utf-8").rstrip("\n")
        users.append({**account(user["username"], password, user["roles"]), **{key: user[key] for key in NAMES if user.get(key)}})

    def mark(value):
        # With a key, since passwords are in it.
        text = json.dumps(value, sort_keys=True)
        return hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()

    done = Done(connection)
    done.lock()
    before = done.read()
    # A start of another version, or of another one of these programs, does everything again.
    version = f"{VERSION_STRING} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}"
    if before.get("version") != version:
        before = {}
        upgrade(app)
        done.begin()
        done.write("version", version)
    with app.app_context():
        from superset import db

        if before.get("access") != mark(access):
            for entry in access:
                grant(entry)
            db.session.commit()
            done.write("access", mark(access))
        for user in users:
            name = f"user {user['username']}"
            if before.get(name) != mark(user):
                put(user)
                db.session.commit()
                done.write(name, mark(user))
        wanted = {f"user {user['username']}" for user in users}
        for name in before:
            if name.startswith("user ") and name not in wanted:
                # Not removed: charts of theirs may be in use. They come in no more.
                lock_out(name.removeprefix("user "))
                db.session.commit()
                done.forget(name)
        db.session.remove()
        # Connections do not survive a fork.
        db.engine.dispose()
    log.info("the metadata is as it has to be")


NAMES = ("firstName", "lastName", "email")


def account(username, password, roles):
    return {
        "username": username,
        "password": password,
        "roles": roles,
        "firstName": username,
        "lastName": "StockFeed",
        "email": f"{username}@stockfeed.invalid",
    }


def upgrade(app):
    """What `superset db upgrade` and `superset init` do."""
    import flask_migrate
    from superset import appbuilder, db, security_manager

    log.info("bringing the metadata up to date (half a minute when it is empty)")
    with app.app_context():
        flask_migrate.upgrade(directory=app.extensions["migrate"].directory)
        log.info("writing permissions and roles")
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        db.session.commit()
        # It found no tables when the app was made.
        app.sync_config_to_db()
        db.session.commit()


def grant(entry):
    """Makes the role of an entry of `access` what it has to be."""
    from superset import security_manager

    wanted = set(VIEWER)
    if entry.get("sqlLab"):
        wanted |= ANALYST | security_manager.SQLLAB_ONLY_PERMISSIONS | security_manager.SQLLAB_EXTRA_PERMISSION_VIEWS
    role = security_manager.find_role(entry["role"]) or security_manager.add_role(entry["role"])
    kept = [held for held in role.permissions if held.permission.name in DATA]
    found = [security_manager.find_permission_view_menu(*pair) for pair in sorted(wanted)]
    role.permissions = kept + [pair for pair in found if pair]
    log.info("role %r has %d permissions", entry["role"], len(role.permissions))


def put(user):
    """Makes an account, or gives it its roles and password again."""
    from superset import security_manager

    roles = [security_manager.find_role(name) for name in user["roles"]]
    if None in roles:
        missing = user["roles"][roles.index(None)]
        sys.exit(f"user {user['username']!r} is to have role {missing!r}, which is neither in access nor one of Superset's")
    present = security_manager.find_user(username=user["username"])
    if present is None:
        added = security_manager.add_user(
            user["username"], user["firstName"], user["lastName"], user["email"], roles, password=user["password"]
        )
        if not added:
            sys.exit(f"failed to make user {user['username']!r}; is its email address another one's?")
    else:
        present.roles = roles
        present.active = True
        security_manager.reset_password(present.id, user["password"])
    log.info("user %r has %s", user["username"], ", ".join(user["roles"]))


def lock_out(username):
    from superset import security_manager

    user = security_manager.find_user(username=username)
    if user is not None:
        user.active = False
        log.info("user %r is no longer in the values and may not log in", username)


def serve(app):
    """Runs gunicorn in this process; its workers have the app that was loaded here."""
    from gunicorn.app.base import BaseApplication

    settings = {
        "bind": os.environ.get("STOCKFEED_SUPERSET_BIND", "0.0.0.0:8080"),
        "workers": int(os.environ.get("STOCKFEED_SUPERSET_WORKERS", "1")),
        "worker_class": "gthread",
        "threads": 8,
        "timeout": 120,
        "graceful_timeout": 20,
        "keepalive": 5,
        # Superset's own addresses can be long.
        "limit_request_line": 0,
        "limit_request_field_size": 0,
        "worker_tmp_dir": os.environ["SUPERSET_HOME"],
        "preload_app": True,
        # A newer gunicorn would listen for commands in the home folder.
        "control_socket_disable": True,
    }

    class Server(BaseApplication):
        def load_config(self):
            for name, value in settings.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self):
            return app

    Server().run()


def main():
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    # Each of a thousand permissions and columns would be a line.
    for name in ("alembic", "flask_appbuilder"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Process 1 of a container ignores what it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Path(os.environ["SUPERSET_HOME"]).mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    from superset.app import create_app
    from superset.config import STOCKFEED_DATABASE

    connection = wait_for_database(STOCKFEED_DATABASE)
    app = create_app()
    prepare(app, connection)
    connection.close()
    log.info("serving after %.0f s", time.monotonic() - started)
    serve(app)


if __name__ == "__main__":
    main()
