"""Writes the input of the golden files: the same rows whenever it is run.

Every table says how far its rows come out of order, and which of them come late. Times are whole seconds while every
watermark lies on half a second, so that no row lies exactly on one: there Flink and Eddyline differ on purpose.
"""

import random
from datetime import datetime, timedelta
from pathlib import Path

INPUT = Path(__file__).parent / "input"
# Windows cross midnight, a leap day and the end of a month.
START = datetime(2024, 2, 28, 23, 50)
# Ahead of every row: a table's watermark is its newest time less 4.5 seconds, so that what comes 4 seconds late is in time.
JITTER = 4


def write(name, rows):
    lines = [",".join("NULL" if cell is None else str(cell) for cell in row) for row in rows]
    (INPUT / f"{name}.csv").write_text("\n".join(lines) + "\n")


def at(second):
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")


def shuffled(rows, rng):
    """Rows that begin with their second, in an order in which none is more than JITTER seconds behind one before it."""
    return sorted(rows, key=lambda row: row[0] + rng.uniform(0, JITTER))


def bids(rng, late):
    """id, k, lot, price, ts. No two bids of a k have the same time or price, as neither side says in which order these are."""
    rows, second, taken = [], 0, set()
    prices = {k: rng.sample(range(1, 1000), 600) for k in "abcd"}
    for _ in range(480):
        second += rng.choice([0, 0, 1, 1, 1, 2, 2, 3])
        k = rng.choice("aaabbcd")
        if (k, second) in taken:
            second += 1
            taken.add((k, second))
        taken.add((k, second))
        rows.append((second, k))
    rows = shuffled(rows, rng)
    if late:
        for place in sorted(rng.sample(range(60, len(rows)), 40), reverse=True):
            second, k = rows[place]
            behind = second - rng.choice([6, 8, 11, 15, 22, 40])
            if (k, behind) not in taken:
                taken.add((k, behind))
                rows.insert(place, (behind, k))
    null = 0.04 if late else 0
    return [(n, k, rng.randrange(3), None if rng.random() < null else prices[k].pop(), at(second)) for n, (second, k) in enumerate(rows, 1)]


def visits(rng):
    """id, who, pages, ts. Bursts with silence between, some near enough to be one session; late rows that no session is open for."""
    rows = []
    for who in ["ada", "bob", "cyd"]:
        second = rng.randrange(10)
        while second < 900:
            for _ in range(rng.randrange(1, 7)):
                rows.append((second, who))
                second += rng.randrange(0, 5)
            second += rng.choice([3, 4, 5, 6, 12, 25])
    rows = shuffled(rows, rng)
    for place in sorted(rng.sample(range(120, len(rows)), 20), reverse=True):
        second, who = rows[place]
        rows.insert(place, (second - rng.randrange(150, 250), who))
    return [(n, who, rng.randrange(1, 20), at(second)) for n, (second, who) in enumerate(rows, 1)]


def payments(rng):
    """id, card, status, amount, ts. Cards are declined in rows; two payments of a card may have the same time."""
    rows, second = [], 0
    mood = {card: 0.3 for card in ["c1", "c2", "c3", "c4"]}
    for _ in range(620):
        second += rng.choice([0, 1, 3, 5, 10, 20])
        card = rng.choice(list(mood))
        if rng.random() < 0.15:
            mood[card] = rng.choice([0.2, 0.5, 0.9])
        status = "declined" if rng.random() < mood[card] else rng.choice(["approved", "approved", "approved", "pending"])
        rows.append((second, card, status))
    rows = shuffled(rows, rng)
    for place in sorted(rng.sample(range(60, len(rows)), 25), reverse=True):
        second, card, status = rows[place]
        rows.insert(place, (second - rng.choice([8, 20, 60, 200]), card, status))
    return [(n, card, status, rng.randrange(1, 100), at(second)) for n, (second, card, status) in enumerate(rows, 1)]


def orders(rng):
    """Of orders: id, item, ts. Of shipments: id, order_id, ts; some before their order, some long after it, some of no order."""
    ordered, shipped = [], []
    for n in range(1, 161):
        second = n * 4 + rng.randrange(4)
        ordered.append((second, n, rng.choice(["pen", "ink", "pad"])))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            shipped.append((max(0, second + rng.choice([-7, -3, 0, 1, 4, 9, 10, 11, 25])), None if rng.random() < 0.05 else n))
    write("orders", [(n, item, at(second)) for second, n, item in shuffled(ordered, rng)])
    write("shipments", [(n, order, at(second)) for n, (second, order) in enumerate(shuffled(shipped, rng), 1)])


def rates(rng):
    """Of rates: currency, rate, ts, a version each. Of purchases: id, currency, amount, ts."""
    versions = [(second, currency) for currency in ["eur", "yen", "gbp"] for second in rng.sample(range(0, 600), 20)]
    bought = [(second, rng.choice(["eur", "yen", "gbp", "eur", "usd", None])) for second in range(0, 620, 3)]
    write("rates", [(currency, rng.randrange(50, 200), at(second)) for second, currency in shuffled(sorted(versions), rng)])
    rows = enumerate(shuffled(bought, rng), 1)
    write("purchases", [(n, currency, rng.randrange(1, 100), at(second)) for n, (second, currency) in rows])


INPUT.mkdir(exist_ok=True)
write("bid", bids(random.Random(1), late=True))
write("punctual", bids(random.Random(2), late=False))
write("visit", visits(random.Random(3)))
write("payment", payments(random.Random(4)))
orders(random.Random(5))
rates(random.Random(6))
