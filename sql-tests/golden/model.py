"""What the queries over which Eddyline and Flink differ must come to here: writes `ours/`, a file for each query `differs_*`.

A model of its own, by the rules that docs/sql.md states, row by row over `input/` in the order of arrival. Shares nothing with the product. Where the
two do not differ the same functions must give Flink's rows (`expected/`): that is looked at first, for a query of each kind, so that a mistake in a rule that
both have is noticed here.

What the rules are, and where they are used:

- A table's watermark is its newest time less 4.5 s. A row finds the watermark of the rows before it: each comes with a statement, a cut, of its own.
- Windows (`tumble`, `hop`): a row is late for a window whose end the watermark has reached. TUMBLE with an offset of 3 s begins windows at 3, 13, 23, ... s;
  HOP with one of -1 s at -1, 3, 7, ... s. Each window has all rows that were not late for it: Flink 1.20 loses some of them (FLINK-36664).
- `filter_distinct`: FILTER counts the rows that meet its condition, and null does not.
- Sessions (`session`): a row is late if a gap behind it the watermark has passed, whatever session is open. A session is closed when the watermark has
  reached a gap behind its last row, and takes in no more. A row exactly a gap behind another does not join it.
- OVER (`over`): every row counts in the frames of all rows, late or not.
- `null_order`: nulls are larger than everything, so ascending they come last.
- `average`: AVG of integers is the double nearest to the exact quotient.
- Row patterns (`matches`): a row behind the watermark is late. A greedy quantifier takes as many rows as it can, and gives back, one by one, those without
  which the rest can match. A match is searched from each row on; after one, from the row behind it on. Where the rows that are there end before the
  quantifier does, rows to come decide, and nothing is shown from there on.
"""

import sys
from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
DELAY = timedelta(seconds=4.5)
COLUMNS = {
    "bid": ["id", "k", "lot", "price", "ts"],
    "punctual": ["id", "k", "lot", "price", "ts"],
    "visit": ["id", "who", "pages", "ts"],
    "payment": ["id", "card", "status", "amount", "ts"],
}
TEXTS = {"k", "who", "card", "status"}
EPOCH = datetime(1970, 1, 1)
UNDECIDED = "undecided"


def value(name, cell):
    if cell == "NULL":
        return None
    if name == "ts":
        return datetime.strptime(cell, "%Y-%m-%d %H:%M:%S")
    return cell if name in TEXTS else int(cell)


def read(table):
    """Rows in the order of arrival, each with the watermark that it finds."""
    rows, watermark = [], datetime.min
    for line in (HERE / f"input/{table}.csv").read_text().splitlines():
        row = {name: value(name, cell) for name, cell in zip(COLUMNS[table], line.split(","), strict=True)}
        row["watermark"] = watermark
        rows.append(row)
        watermark = max(watermark, row["ts"] - DELAY)
    return rows


def text(cell):
    if cell is None:
        return "NULL"
    if isinstance(cell, datetime):
        whole = cell.strftime("%Y-%m-%d %H:%M:%S")
        return whole + f".{cell.microsecond:06}".rstrip("0") if cell.microsecond else whole
    if isinstance(cell, float):
        return repr(cell).removesuffix(".0")
    return str(cell)


def lines(rows):
    return sorted(",".join(text(cell) for cell in row) for row in rows)


def seconds(number):
    return timedelta(seconds=number)


def windows_of(time, size, slide, offset):
    """Starts of the windows that cover a time, as a multiple of the slide and the offset."""
    start = EPOCH + offset + (time - EPOCH - offset) // slide * slide
    while start + size > time:
        yield start
        start -= slide


def windowed(rows, size, slide=None, offset=seconds(0)):
    """Rows by window, without those that are late for it."""
    of_window = defaultdict(list)
    for row in rows:
        for start in windows_of(row["ts"], size, slide or size, offset):
            if start + size > row["watermark"]:
                of_window[start, start + size].append(row)
    return of_window


def sessions(rows, key, gap):
    """(start, end, key, rows) of every session. Which rows are open when the next one comes decides what it can join."""
    closed, is_open = [], []

    def chained():
        """The open rows as sessions."""
        chains = []
        for row in sorted(is_open, key=lambda row: (row[key], row["ts"])):
            last = chains[-1][-1] if chains else None
            if last and last[key] == row[key] and row["ts"] < last["ts"] + gap:
                chains[-1].append(row)
            else:
                chains.append([row])
        return chains

    for row in rows:
        for chain in chained():
            if chain[-1]["ts"] + gap <= row["watermark"]:
                closed.append(chain)
                for ended in chain:
                    is_open.remove(ended)
        if row["ts"] + gap > row["watermark"]:
            is_open.append(row)
    return [(chain[0]["ts"], chain[-1]["ts"] + gap, chain[0][key], chain) for chain in closed + chained()]


def over_range(rows, key, back):
    """Every row with the rows of its frame."""
    for row in rows:
        yield row, [other for other in rows if other[key] == row[key] and row["ts"] - back <= other["ts"] <= row["ts"]]


def partitions(rows, key):
    """Rows of each partition in order, without late ones."""
    of_key = defaultdict(list)
    for row in rows:
        if row["ts"] >= row["watermark"]:
            of_key[row[key]].append(row)
    return {key: sorted(rows, key=lambda row: (row["ts"], row["id"])) for key, rows in of_key.items()}


def matches(rows, first, repeated, least, last):
    """Matches of PATTERN (a u{least,} e), greedy, with the condition of each variable. Gives the rows of a, of u, and of e."""
    at = 0
    while at < len(rows):
        found = match_at(rows, at, first, repeated, least, last)
        if found == UNDECIDED:
            return
        if found:
            yield found
            at = rows.index(found[2]) + 1
        else:
            at += 1


def match_at(rows, at, first, repeated, least, last):
    if not first(rows[at]):
        return None
    most = 0
    while at + 1 + most < len(rows) and repeated(rows[at + 1 + most]):
        most += 1
    if at + 1 + most == len(rows):
        return UNDECIDED
    for taken in range(most, least - 1, -1):
        end = at + 1 + taken
        if last(rows[end]):
            return rows[at], rows[at + 1 : end], rows[end]
    return None


def total(rows, name):
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def extreme(rows, name, of):
    known = [row[name] for row in rows if row[name] is not None]
    return of(known) if known else None


def prices(rows):
    """COUNT(*), COUNT(price), SUM, MIN, MAX of price."""
    counted = sum(row["price"] is not None for row in rows)
    return len(rows), counted, total(rows, "price"), extreme(rows, "price", min), extreme(rows, "price", max)


def by_k(of_window):
    for (start, end), rows in of_window.items():
        for k in {row["k"] for row in rows}:
            of_k = [row for row in rows if row["k"] == k]
            yield start, end, k, *prices(of_k), len({row["lot"] for row in of_k})


def shared():
    """Queries over which the two do not differ."""
    bid, punctual, visit = read("bid"), read("punctual"), read("visit")
    yield "tumble", by_k(windowed(bid, seconds(10)))
    yield "hop", by_k(windowed(bid, seconds(15), seconds(5)))
    of_visit = sessions(visit, "who", seconds(5.2))
    distinct = [(s, e, who, len(rows), total(rows, "pages"), extreme(rows, "pages", min), len({r["pages"] for r in rows})) for s, e, who, rows in of_visit]
    yield "session", distinct
    frames = over_range(punctual, "lot", seconds(10))
    of_frame = ((row, prices(frame)) for row, frame in frames)
    yield "over_range", ((row["id"], row["lot"], row["k"], row["ts"], n, s, low, high) for row, (n, _, s, low, high) in of_frame)
    yield "match_greedy_star", star(read("payment"))


def star(payment):
    for card, rows in partitions(payment, "card").items():
        approved, declined = (lambda row: row["status"] == "approved"), (lambda row: row["status"] == "declined")
        for a, d, e in matches(rows, approved, declined, 0, lambda row: row["amount"] >= 50 and row["status"] != "declined"):
            yield card, a["id"], len(d), d[0]["id"] if d else None, d[-1]["id"] if d else None, e["id"]


def ours():
    bid, punctual, visit, payment = read("bid"), read("punctual"), read("visit"), read("payment")
    for name, of_window in [
        ("tumble_offset", windowed(bid, seconds(10), offset=seconds(3))),
        ("hop_offset", windowed(bid, seconds(12), seconds(4), seconds(-1))),
    ]:
        yield name, [(start, end, len(rows), total(rows, "price")) for (start, end), rows in of_window.items()]
    kept = windowed([row for row in bid if row["lot"] != 1], seconds(7))
    yield "filter_distinct", [
        (start, end, sum((row["price"] or 0) > 500 for row in rows), sum({row["lot"] for row in rows}), max(row["k"] for row in rows))
        for (start, end), rows in kept.items()
        if len(rows) > 1
    ]
    yield "session_late", [(start, end, k, len(rows)) for start, end, k, rows in sessions(bid, "k", seconds(5.2))]
    yield "session_touching", [(start, end, who, len(rows)) for start, end, who, rows in sessions(visit, "who", seconds(5))]
    yield "over_late", [(row["id"], row["k"], row["ts"], len(frame)) for row, frame in over_range(bid, "k", seconds(10))]
    yield "null_order", null_order(bid)
    yield "average", average(punctual)
    yield "match_greedy", greedy(payment)


def null_order(bid):
    for k in {row["k"] for row in bid}:
        of_k = [row for row in bid if row["k"] == k]
        of_k.sort(key=lambda row: (row["price"] is None, row["price"] or 0, row["id"]))
        yield from ((k, row["id"], row["price"]) for row in of_k[:3])


def average(punctual):
    for k in {row["k"] for row in punctual}:
        of_k = [row["price"] for row in punctual if row["k"] == k]
        yield k, float(Fraction(sum(of_k), len(of_k)))


def greedy(payment):
    for card, rows in partitions(payment, "card").items():
        declined = lambda row: row["status"] == "declined"
        for a, u, e in matches(rows, declined, lambda row: not declined(row), 1, lambda row: row["amount"] > 70):
            yield card, a["id"], len(u), e["id"]


def golden(name):
    return sorted((HERE / f"expected/{name}.csv").read_text().splitlines())


wrong = [name for name, rows in shared() if lines(rows) != golden(name)]
if wrong:
    sys.exit(f"the model has other rows than Flink where the two do not differ: {', '.join(wrong)}")
(HERE / "ours").mkdir(exist_ok=True)
for name, rows in ours():
    found = lines(rows)
    assert found != golden(f"differs_{name}"), f"{name}: Flink has the same rows"
    (HERE / f"ours/differs_{name}.csv").write_text("\n".join(found) + "\n")
