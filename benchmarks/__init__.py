"""How fast the library is, beside raw psycopg doing the same work, and beside what else one could use.

`nox -s bench` runs all of it, `nox -s bench -- --quick` takes about a minute.  Nothing here passes or fails by time.
"""
