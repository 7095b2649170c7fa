SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY ts, id
  MEASURES FIRST(u.amount) AS low, LAST(u.amount) AS high, COUNT(u.id) AS n, f.id AS f
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO LAST u
  PATTERN (s u+ f)
  DEFINE u AS u.amount > LAST(u.amount, 1) OR (LAST(u.amount, 1) IS NULL AND u.amount > s.amount), f AS f.amount <= LAST(u.amount)
)
