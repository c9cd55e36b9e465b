"""Count the orders. `gk exec` has put the login into libpq's own variables."""

import psycopg

with psycopg.connect("") as connection:
    row = connection.execute("SELECT current_user, count(*) FROM orders").fetchone()
    assert row is not None
    print(f"{row[0]} counted {row[1]} orders")
